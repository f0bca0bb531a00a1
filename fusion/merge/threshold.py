"""The k-th largest magnitude of many numbers, exactly, without sorting them or holding them at once.

Non-negative fp32 numbers order as their bit patterns do.  One reading counts the upper half of the patterns, a second
the lower half of those that share the upper half of the number sought: two readings, 128 K counters, any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fusion.merge.parameter import Mapper, Parameter, Piece

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Count = Literal["at_least", "exactly"]
Magnitudes = Callable[[Piece], "Sequence[Tensor] | Tensor"]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Which of many numbers are kept: those that are not below `value`."""

    value: float
    kept: int
    """How many are kept,"""
    total: int
    """of how many."""
    allowed: Mapping[int, int] | None = None
    """By the start of a piece how many of the numbers in it that equal `value` are kept, the first; None: all."""

    def trim(self, values: Tensor, start: int, out: Tensor) -> None:
        """Write what is kept of the piece that starts at `start` into `out`, and zero elsewhere."""
        import torch

        from fusion.merge import compiled

        if self.allowed is None:
            compiled.trim(values.numpy(), np.float32(self.value), out.numpy())
        else:
            torch.mul(values, self.mask(values, start), out=out)

    def mask(self, values: Tensor, start: int) -> Tensor:
        """1 where a number is kept and 0 elsewhere, fp32, for the piece that starts at `start`."""
        import torch

        from fusion.merge import compiled

        flat = values.numpy()
        mask = np.empty(len(flat), np.float32)
        if self.allowed is None:
            compiled.at_least(flat, np.float32(self.value), mask)
        else:
            compiled.above_and_first(flat, np.float32(self.value), self.allowed[start], mask)
        return torch.from_numpy(mask)


def largest(
    parameters: Sequence[Parameter],
    magnitudes: Magnitudes,
    rank: Callable[[int, int, int], int],
    *,
    count: Count = "at_least",
    map: Mapper = map,
) -> tuple[Threshold, ...]:
    """For each series of numbers that `magnitudes` gives, the threshold that keeps its largest.

    `rank(series, total, nonzero)` says how many to keep.  `count` decides among equal numbers at the threshold:
    `at_least` keeps all of them, so a result does not depend on the order of positions; `exactly` keeps those that come
    first, and is for one parameter only.
    """
    highs = list(map(lambda parameter: _highs(parameter, magnitudes), parameters))
    counts = sum(found for found, _ in highs)
    zeros = sum(found for _, found in highs)
    if not highs or np.isscalar(counts):
        return ()
    total = int(counts[0].sum())
    wanted = [rank(series, total, total - int(zeros[series])) for series in range(len(counts))]
    bins = [_bin(row, k) for row, k in zip(counts, wanted, strict=True)]
    sought = [high if 0 < k < total else -1 for (high, _), k in zip(bins, wanted, strict=True)]
    lows: Any = 0
    if any(high >= 0 for high in sought):
        lows = sum(map(lambda parameter: _lows(parameter, magnitudes, sought), parameters))
    found = []
    for series, k in enumerate(wanted):
        if k <= 0:
            found.append(Threshold(value=math.inf, kept=0, total=total))
        elif k >= total:
            found.append(Threshold(value=0.0, kept=total, total=total))
        else:
            high, above = bins[series]
            low, above_low = _bin(lows[series], k - above)
            value = float(np.array([high << 16 | low], np.uint32).view(np.float32)[0])
            kept = above + above_low + int(lows[series][low])
            allowed = None
            if count == "exactly" and kept > k:
                allowed = _allowed(parameters, magnitudes, series, value, k - above - above_low)
                kept = k
            found.append(Threshold(value=value, kept=kept, total=total, allowed=allowed))
    return tuple(found)


def _bits(values: Tensor) -> NDArray[np.uint32]:
    return values.numpy().view(np.uint32)


def _highs(parameter: Parameter, magnitudes: Magnitudes) -> tuple[Any, Any]:
    from fusion.merge import compiled

    counts: list[NDArray[np.int64]] = []
    zeros: list[int] = []
    for piece in parameter.pieces():
        series = magnitudes(piece)
        if not counts:
            counts = [np.zeros(compiled.HIGH_BINS, np.int64) for _ in series]
            zeros = [0] * len(series)
        for number, values in enumerate(series):
            zeros[number] += compiled.count_high(_bits(values), counts[number])
    return (np.stack(counts), np.array(zeros)) if counts else (0, 0)


def _lows(parameter: Parameter, magnitudes: Magnitudes, sought: Sequence[int]) -> NDArray[np.int64]:
    from fusion.merge import compiled

    counts = np.zeros((len(sought), compiled.LOW_BINS), np.int64)
    for piece in parameter.pieces():
        for number, values in enumerate(magnitudes(piece)):
            if sought[number] >= 0:
                compiled.count_low(_bits(values), sought[number], counts[number])
    return counts


def _bin(counts: NDArray[np.int64], k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and how many lie in the bins above it."""
    from_above = np.cumsum(counts[::-1])
    position = int(np.searchsorted(from_above, max(k, 1)))
    return len(counts) - 1 - position, int(from_above[position - 1]) if position else 0


def _allowed(
    parameters: Sequence[Parameter], magnitudes: Magnitudes, series: int, value: float, left: int
) -> Mapping[int, int]:
    from fusion.merge import compiled

    if len(parameters) != 1:
        raise ValueError("count: exactly needs one parameter at a time")
    allowed = {}
    for piece in parameters[0].pieces():
        equal = compiled.count_equal(magnitudes(piece)[series].numpy(), np.float32(value))
        allowed[piece.start] = min(left, equal)
        left -= allowed[piece.start]
    return allowed
