"""The installed `alpaca-eval` package: where it lies, and its modules imported at the first use (about 3 s).

Nothing is ever written into it, although its own defaults would.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import types
from pathlib import Path

from eval.errors import HarnessFailure


@functools.cache
def alpaca_folder() -> Path:
    """The package's folder, found without importing it.  Raises HarnessFailure when it is not installed."""
    found = importlib.util.find_spec("alpaca_eval")
    if found is None or not found.submodule_search_locations:
        raise HarnessFailure("AlpacaEval needs the package alpaca-eval: install fusechat-lab[eval]")
    return Path(next(iter(found.submodule_search_locations)))


@functools.cache
def alpaca_module(name: str) -> types.ModuleType:
    """One of its modules, such as `metrics`; the root logger keeps its level, which the package would set to INFO."""
    alpaca_folder()
    root = logging.getLogger()
    level = root.level
    try:
        return importlib.import_module(f"alpaca_eval.{name}")
    finally:
        root.setLevel(level)
