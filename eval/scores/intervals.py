"""Intervals of means over questions.

A question's turns (and its repetitions over seeds) are not independent, so whole questions are the units: a group of
rows is one question.  Which formula a mean has depends on what is known of its values:

* they lie between known ends (ratings, shares, percentages): `bounded_mean.py`;
* no bound is known (lengths, differences): Student's t over the questions, here.

Everything is a closed formula; nothing is drawn.  `bench.coverage` simulates how often each kind holds the truth.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.scores.bounded_mean import bounded_mean_ends

if TYPE_CHECKING:
    from jaxtyping import Int


# The ends of an interval, or of none.
Ends = tuple[float, float] | tuple[None, None]
# Below this, beside values of order 1, a spread is the order of adding.
_NO_SPREAD = 1e-9


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """How uncertainty is told: what two-sided intervals claim, and the seed by which tests flip signs."""

    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}: expected a number between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate from `n` rows; `low` and `high` are None where no interval can be given: below two questions, and
    where a formula that measures the spread finds none."""

    value: float
    low: float | None
    high: float | None
    n: int


def group_indices(groups: Sequence[Hashable]) -> tuple[Int[NDArray[np.intp], " rows"], int]:
    """Number the groups in order of first appearance: the number of every row's group, and how many there are."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp), len(numbers)


def mean_interval(
    values: ArrayLike,
    groups: Sequence[Hashable],
    uncertainty: Uncertainty,
    *,
    ends: tuple[float, float] | None = None,
) -> Interval:
    """Mean over rows with its interval, clustered by group.

    `ends`: the least and the most that a value can be, where that is known; the interval then stays within them and has
    width even where all values are alike.  A value beyond them shows that they are not known after all.  Raises
    ValueError without rows.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.size == 0:
        raise ValueError("no rows to average")
    if rows.size != len(groups):
        raise ValueError(f"{rows.size} values but {len(groups)} groups: expected one group per value")
    index, count = group_indices(groups)
    sums: NDArray[np.float64] = np.bincount(index, weights=rows, minlength=count).astype(np.float64)
    sizes = np.bincount(index, minlength=count)
    mean = float(rows.mean())
    low, high = _mean_ends(rows, sums, sizes, ends, uncertainty.confidence) if count > 1 else (None, None)
    return Interval(value=mean, low=low, high=high, n=rows.size)


def _mean_ends(
    rows: NDArray[np.float64],
    sums: NDArray[np.float64],
    sizes: NDArray[np.intp],
    ends: tuple[float, float] | None,
    confidence: float,
) -> Ends:
    if ends is None or rows.min() < ends[0] - _NO_SPREAD or rows.max() > ends[1] + _NO_SPREAD:
        return student_ends(float(rows.mean()), float(clustered_error(sums, sizes)), len(sizes) - 1, confidence)
    least, width = ends[0], ends[1] - ends[0]
    found = bounded_mean_ends((sums - least * sizes) / width, sizes.astype(np.float64), confidence)
    low, high = (least + width * end for end in found)
    return low, high


def student_ends(estimate: float, error: float, degrees: float, confidence: float) -> Ends:
    """Student's (1908) interval: the estimate and t(`degrees`) of its standard errors to both sides; none where the
    error is zero or infinite, because a sample without spread does not say how much there is.
    """
    if not _NO_SPREAD * max(1.0, abs(estimate)) < error < math.inf:
        return None, None
    reach = t_quantile((1 + confidence) / 2, degrees) * error
    return estimate - reach, estimate + reach


@functools.lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: float) -> float:
    """Student's t below which `probability` lies; the normal's at infinite `degrees`."""
    from scipy.special import stdtrit  # loads in a third of a second

    return float(stdtrit(degrees, probability))


def clustered_standard_error(values: ArrayLike, groups: Sequence[Hashable]) -> float:
    """Standard error of the mean over rows when whole groups were sampled.

    Cluster-robust variance with the small-sample factor G/(G-1): sqrt(G/(G-1) * sum_g (sum_i (x_gi - mean))^2) / n.
    With one row per group it is the usual standard deviation over sqrt(n).  Raises ValueError below two groups.
    """
    rows = np.asarray(values, dtype=np.float64)
    index, count = group_indices(groups)
    if count < 2:
        raise ValueError(f"{count} group: a standard error needs at least two")
    sums = np.bincount(index, weights=rows - rows.mean(), minlength=count)
    return float(clustered_error(sums, np.bincount(index, minlength=count)))


def clustered_error(sums: NDArray[np.generic], sizes: NDArray[np.generic]) -> NDArray[np.float64]:
    """`clustered_standard_error` [...] from each group's sum of rows [..., G] and number of rows [G], two or more."""
    groups, rows = len(sizes), sizes.sum()
    residuals = sums - sums.sum(axis=-1, keepdims=True) / rows * sizes
    return np.asarray(np.sqrt(groups / (groups - 1) * np.sum(residuals**2, axis=-1)) / rows)


def batches(total: int, *, size: int = 500) -> list[slice]:
    """Slices that walk over `total` flips, so that large benchmarks stay within tens of MB."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
