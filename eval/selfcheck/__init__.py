"""Whether this installation gives the numbers that others published: `python -m eval selfcheck=true`.

Each benchmark has a file with one function, `rows(data: Path) -> list[CheckRow]`: every published figure found below
the data folder beside ours, none where nothing was published there.  To add one: a file, and a name in BENCHMARKS.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from eval.selfcheck.row import CheckRow
from fusion.configure import Refusal

BENCHMARKS = ("alpaca_eval", "mt_bench")


def check(data: Path) -> list[CheckRow]:
    """The rows of every benchmark.  Raises Refusal when no published figures lie below `data`."""
    found: list[CheckRow] = []
    for name in BENCHMARKS:
        if importlib.util.find_spec(f"eval.selfcheck.{name}") is not None:
            found += importlib.import_module(f"eval.selfcheck.{name}").rows(data)
    if not found:
        raise Refusal(
            f"no published annotations or judgments lie below {data}: python -m fusion.benchmark_data fetches them, or"
            " set paths.data (FUSECHAT_LAB_DATA)"
        )
    return found


__all__ = ["BENCHMARKS", "CheckRow", "check"]
