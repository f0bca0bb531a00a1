"""Whether this installation gives the numbers that others published: `python -m eval selfcheck=true`.

Each benchmark has a file with one function, `rows(data: Path) -> list[CheckRow]`: every published figure found below
the data folder beside ours, none where nothing was published there.  To add one: a file, and a line in CHECKS.

    row.py            one figure beside the published one
    mt_bench.py       MT-Bench's judgments: ratings, prompts, means
    alpaca_eval.py    AlpacaEval's annotations and leaderboard
    table.py          the rows as text, Markdown and CSV
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from eval.selfcheck import alpaca_eval, mt_bench
from eval.selfcheck.row import CheckRow
from fusion.runtime.configure import Refusal

CHECKS: Mapping[str, Callable[[Path], list[CheckRow]]] = {"alpaca_eval": alpaca_eval.rows, "mt_bench": mt_bench.rows}


def check(data: Path) -> list[CheckRow]:
    """The rows of every benchmark.  Raises Refusal when no published figures lie below `data`."""
    found = [row for rows in CHECKS.values() for row in rows(data)]
    if not found:
        raise Refusal(
            f"no published annotations or judgments lie below {data}: python -m eval.benchmark_data fetches them, or"
            " set paths.data (FUSECHAT_LAB_DATA)"
        )
    return found


__all__ = ["CHECKS", "CheckRow", "check"]
