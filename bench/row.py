"""A row of the table, and the two ways in which everything here is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """What was measured, the figure, and the bar; `reached` is None where there is no bar to reach."""

    what: str
    measured: str
    bar: str
    reached: bool | None


def by_turns(*functions: Callable[[], object], repeats: int) -> list[float]:
    """The median seconds of each function, all called in turn `repeats` times after one round that is not counted."""
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, seconds, strict=True):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def once(function: Callable[[], object]) -> float:
    """Seconds of one call, for what takes too long to repeat."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def spelled(seconds: float) -> str:
    """Seconds with a fitting unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
