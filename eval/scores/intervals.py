"""Uncertainty of means over questions: bootstrap by question, paired differences, smallest detectable difference.

A question's turns (and its repetitions over seeds) are not independent, so whole questions are resampled: a group `g`
of rows enters a resample 0, 1, 2, ... times.  Everything here is a pure function of arrays and a seed.

Resampling shows only what the sample holds.  Where all questions score alike every resample has the same mean, which is
no certainty: such an interval is none, or Wilson's where the values are parts of a whole.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


# The ends of an interval, or of none.
Ends = tuple[float, float] | tuple[None, None]
# Of a whole; tables print percentages with one decimal.
_NARROWEST = 0.001


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are drawn: number of resamples, two-sided confidence, seed."""

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}: expected at least 1")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}: expected a number between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate from `n` rows; `low` and `high` are None below two questions and where resampling shows no spread."""

    value: float
    low: float | None
    high: float | None
    n: int


def group_indices(groups: Sequence[Hashable]) -> tuple[Int[NDArray[np.intp], " rows"], int]:
    """Number the groups in order of first appearance: the number of every row's group, and how many there are."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp), len(numbers)


@functools.lru_cache(maxsize=8)
def resample_counts(groups: int, bootstrap: Bootstrap) -> NDArray[np.float64]:
    """How often each group enters each resample, [resamples, groups]; every row sums to `groups`.

    The same seed and number of groups give the same resamples, which pairs the intervals of several models; the last
    few are kept, read-only, because a table asks for the same ones over and over.
    """
    generator = np.random.default_rng(bootstrap.seed)
    counts = generator.multinomial(groups, np.full(groups, 1 / groups), size=bootstrap.resamples).astype(np.float64)
    counts.flags.writeable = False
    return counts


def bootstrap_means(
    values: ArrayLike, groups: Sequence[Hashable], bootstrap: Bootstrap
) -> Float64[NDArray[np.float64], " resamples"]:
    """The mean over rows in every resample of whole groups, [resamples]."""
    rows = np.asarray(values, dtype=np.float64)
    index, count = group_indices(groups)
    sums = np.bincount(index, weights=rows, minlength=count)
    sizes = np.bincount(index, minlength=count).astype(np.float64)
    counts = resample_counts(count, bootstrap)
    return (counts @ sums) / (counts @ sizes)


def percentile_interval(draws: Float64[NDArray[np.float64], " resamples"], confidence: float) -> Ends:
    """The central `confidence` share of the draws; none where it has no width."""
    tail = (1 - confidence) / 2
    low, high = map(float, np.quantile(draws, [tail, 1 - tail]))
    # Equal draws differ in their last bits by the order of adding.
    return (low, high) if high - low > 1e-9 * max(1.0, abs(low), abs(high)) else (None, None)


def wilson_interval(share: float, questions: int, confidence: float) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share (0 to 1) of so many questions.

    It holds for parts of a whole as for plain successes, because no distribution on 0 to 1 of that mean varies more.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = share + z * z / (2 * questions)
    reach = z * math.sqrt(share * (1 - share) / questions + (z / (2 * questions)) ** 2)
    low, high = ((centre + sign * reach) / (1 + z * z / questions) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def mean_interval(
    values: ArrayLike, groups: Sequence[Hashable], bootstrap: Bootstrap, *, whole: float | None = None
) -> Interval:
    """Mean over rows with its percentile interval, clustered by group.  Raises ValueError when there are no rows.

    `whole`: values are parts of it (1 for shares, 100 for percent).  Where their interval is narrower than tables
    print, it is Wilson's over the questions; other values have none where it has no width.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.size == 0:
        raise ValueError("no rows to average")
    if rows.size != len(groups):
        raise ValueError(f"{rows.size} values but {len(groups)} groups: expected one group per value")
    mean = float(rows.mean())
    if len(set(groups)) < 2:
        return Interval(value=mean, low=None, high=None, n=rows.size)
    low, high = percentile_interval(bootstrap_means(rows, groups, bootstrap), bootstrap.confidence)
    if whole is not None and (low is None or high is None or high - low < _NARROWEST * whole):
        ends = wilson_interval(min(1.0, max(0.0, mean / whole)), len(set(groups)), bootstrap.confidence)
        low, high = (whole * end for end in ends)
    return Interval(value=mean, low=low, high=high, n=rows.size)


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


def minimum_detectable_difference(
    standard_error: float, *, confidence: float = 0.95, power: float = 0.8, questions: float = math.inf
) -> float:
    """The smallest true difference that a two-sided test at `confidence` finds with probability `power`.

    (t(1 - alpha/2) + t(power)) * standard error of the difference (Cohen 1988), with Student's t at `questions` - 1
    degrees of freedom, because the error is itself estimated from the questions; of infinitely many the normal's.
    """
    from scipy.special import stdtrit  # loads in a third of a second, which no other use of this file needs

    reached, powered = stdtrit(questions - 1, [1 - (1 - confidence) / 2, power])
    return float((reached + powered) * standard_error)


def batches(total: int, *, size: int = 500) -> list[slice]:
    """Slices that walk over `total` resamples, so that large benchmarks stay within tens of MB."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
