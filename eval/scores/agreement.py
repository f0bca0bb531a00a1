"""How far two raters agree, beyond what their habits alone would give; intervals by bootstrap over questions.

Every statistic takes two aligned columns of numbers and, for resampling, the weight of each row; a NaN comes back where
it is not defined (a rater who always says the same).  Kappa: Cohen (1960); weighted by squared distance: Cohen (1968);
several raters: Fleiss (1971); ranks: Spearman (1904), ties at their mean rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.scores.intervals import Bootstrap, Interval, group_indices, percentile_interval, resample_counts

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats, Floats], float]


def percent_agreement(first: Floats, second: Floats, weights: Floats) -> float:
    """The share of rows (0 to 1) with equal values."""
    return _ratio(float(weights @ (first == second)), float(weights.sum()))


def cohen_kappa(first: Floats, second: Floats, weights: Floats) -> float:
    """Agreement on categories beyond chance: (observed - expected) / (1 - expected)."""
    total = float(weights.sum())
    observed = _ratio(float(weights @ (first == second)), total)
    expected = math.fsum(
        float(weights @ (first == value)) * float(weights @ (second == value)) for value in np.unique(first)
    )
    expected = _ratio(expected, total * total)
    return _ratio(observed - expected, 1 - expected)


def quadratic_kappa(first: Floats, second: Floats, weights: Floats) -> float:
    """Cohen's kappa in which a disagreement counts by its squared distance: 1 - observed / expected.

    The distance is that of the values themselves, so unused categories do not matter.
    """
    share = weights / weights.sum()
    mean_first, mean_second = float(share @ first), float(share @ second)
    expected = float(share @ first**2) + float(share @ second**2) - 2 * mean_first * mean_second
    return 1 - _ratio(float(share @ (first - second) ** 2), expected)


def spearman(first: Floats, second: Floats, weights: Floats) -> float:
    """Correlation of ranks."""
    ranks = _ranks(first, weights), _ranks(second, weights)
    share = weights / weights.sum()
    left, right = (rank - share @ rank for rank in ranks)
    return _ratio(float(share @ (left * right)), math.sqrt(float(share @ left**2) * float(share @ right**2)))


STATISTICS: dict[str, Statistic] = {
    "percent_agreement": percent_agreement,
    "kappa": cohen_kappa,
    "quadratic_kappa": quadratic_kappa,
    "spearman": spearman,
}


def agreement(
    statistic: Statistic, first: ArrayLike, second: ArrayLike, groups: Sequence[Hashable], bootstrap: Bootstrap
) -> Interval | None:
    """The statistic over rows, its interval by resampling whole groups (questions); None where it is not defined.

    `low` and `high` are None below two groups.  Raises ValueError for columns of unequal length.
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not left.size == right.size == len(groups):
        raise ValueError(f"{left.size} and {right.size} values in {len(groups)} groups: expected as many of each")
    return _with_interval(lambda weights: statistic(left, right, weights), groups, bootstrap)


def fleiss_agreement(counts: ArrayLike, groups: Sequence[Hashable], bootstrap: Bootstrap) -> Interval | None:
    """Fleiss' kappa of a table of items by categories, its interval by resampling whole groups of items."""
    return _with_interval(lambda weights: fleiss_kappa(counts, weights), groups, bootstrap)


def fleiss_kappa(counts: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Agreement of several raters on categories; `counts[i, j]`: how many put item i into category j, all rows with
    one sum of at least 2.  Raises ValueError otherwise.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(axis=1)
    if not len(table) or raters[0] < 2 or np.any(raters != raters[0]):
        raise ValueError("expected a table of items by categories in which every item has the same two or more ratings")
    n = float(raters[0])
    share = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    observed = float(share @ ((np.sum(table**2, axis=1) - n) / (n * (n - 1))))
    expected = float(np.sum((share @ table / n) ** 2))
    return _ratio(observed - expected, 1 - expected)


def _with_interval(
    statistic: Callable[[Floats], float], groups: Sequence[Hashable], bootstrap: Bootstrap
) -> Interval | None:
    if not groups:
        return None
    value = statistic(np.ones(len(groups)))
    if math.isnan(value):
        return None
    index, count = group_indices(groups)
    if count < 2:
        return Interval(value=value, low=None, high=None, n=len(groups))
    draws = np.array([statistic(weights[index]) for weights in resample_counts(count, bootstrap)])
    low, high = percentile_interval(draws[~np.isnan(draws)], bootstrap.confidence)
    return Interval(value=value, low=low, high=high, n=len(groups))


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mean rank of each row among rows repeated by their weights."""
    _, place = np.unique(values, return_inverse=True)
    sizes = np.bincount(place, weights=weights)
    return np.asarray(np.cumsum(sizes) - (sizes - 1) / 2, dtype=np.float64)[place]


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 1e-12 else math.nan
