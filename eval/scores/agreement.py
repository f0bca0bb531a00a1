"""How far two raters agree, beyond what their habits alone would give; intervals over questions.

Every statistic takes two aligned columns of numbers [rows] and the weights of the rows [..., rows], and gives as many
values as there are sets of weights; a NaN where it is not defined (a rater who always says the same).  Kappa: Cohen
(1960); weighted by squared distance: Cohen (1968); several raters: Fleiss (1971); ranks: Spearman (1904), ties at their
mean rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.scores.intervals import Interval, Uncertainty, group_indices, mean_interval
from eval.scores.jackknife import FISHER_Z, jackknife_ends

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats, Floats], Floats]


def percent_agreement(first: Floats, second: Floats, weights: Floats) -> Floats:
    """The share of rows (0 to 1) with equal values."""
    return _ratio(weights @ (first == second), weights.sum(axis=-1))


def cohen_kappa(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Agreement on categories beyond chance: (observed - expected) / (1 - expected)."""
    total = weights.sum(axis=-1)
    observed = _ratio(weights @ (first == second), total)
    values = np.unique(first)
    by_value = [weights @ (side[:, None] == values).astype(np.float64) for side in (first, second)]
    expected = _ratio(np.sum(by_value[0] * by_value[1], axis=-1), total * total)
    return _ratio(observed - expected, 1 - expected)


def quadratic_kappa(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Cohen's kappa in which a disagreement counts by its squared distance: 1 - observed / expected.

    The distance is that of the values themselves, so unused categories do not matter.
    """
    share = weights / weights.sum(axis=-1, keepdims=True)
    expected = share @ first**2 + share @ second**2 - 2 * (share @ first) * (share @ second)
    return 1 - _ratio(share @ (first - second) ** 2, expected)


def spearman(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Correlation of ranks."""
    share = weights / weights.sum(axis=-1, keepdims=True)
    left, right = (
        rank - np.sum(share * rank, axis=-1, keepdims=True)
        for rank in (_ranks(first, weights), _ranks(second, weights))
    )
    spread = np.sum(share * left**2, axis=-1) * np.sum(share * right**2, axis=-1)
    return _ratio(np.sum(share * left * right, axis=-1), np.sqrt(spread))


STATISTICS: dict[str, Statistic] = {
    "percent_agreement": percent_agreement,
    "kappa": cohen_kappa,
    "quadratic_kappa": quadratic_kappa,
    "spearman": spearman,
}


def agreement(
    statistic: Statistic, first: ArrayLike, second: ArrayLike, groups: Sequence[Hashable], uncertainty: Uncertainty
) -> Interval | None:
    """The statistic over rows, with its interval over groups (questions); None where it is not defined.

    The share of equal values is a mean and has that of one (`bounded_mean`); what is corrected for chance has the
    jackknife's.  Raises ValueError for columns of unequal length.
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not left.size == right.size == len(groups):
        raise ValueError(f"{left.size} and {right.size} values in {len(groups)} groups: expected as many of each")
    if statistic is percent_agreement and groups:
        return mean_interval(left == right, groups, uncertainty, ends=(0.0, 1.0))
    return _with_interval(lambda weights: statistic(left, right, weights), groups, uncertainty)


def fleiss_agreement(counts: ArrayLike, groups: Sequence[Hashable], uncertainty: Uncertainty) -> Interval | None:
    """Fleiss' kappa of a table of items by categories, with the jackknife's interval over groups of items."""
    return _with_interval(lambda weights: fleiss_kappa(counts, weights), groups, uncertainty)


def fleiss_kappa(counts: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Agreement of several raters on categories; `counts[i, j]`: how many put item i into category j, all rows with
    one sum of at least 2; `weights` [..., items].  Raises ValueError otherwise.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(axis=1)
    if not len(table) or raters[0] < 2 or np.any(raters != raters[0]):
        raise ValueError("expected a table of items by categories in which every item has the same two or more ratings")
    n = float(raters[0])
    share = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum(axis=-1, keepdims=True)
    observed = share @ ((np.sum(table**2, axis=1) - n) / (n * (n - 1)))
    expected = np.sum((share @ table / n) ** 2, axis=-1)
    return _ratio(observed - expected, 1 - expected)


def _with_interval(
    statistic: Callable[[Floats], Floats], groups: Sequence[Hashable], uncertainty: Uncertainty
) -> Interval | None:
    if not groups:
        return None
    value = float(statistic(np.ones(len(groups))))
    if math.isnan(value):
        return None
    index, count = group_indices(groups)
    if count < 3:
        return Interval(value=value, low=None, high=None, n=len(groups))
    left_out = np.concatenate([statistic((index != part[:, None]).astype(np.float64)) for part in _parts(count)])
    low, high = jackknife_ends(value, left_out, FISHER_Z, uncertainty.confidence)
    return Interval(value=value, low=low, high=high, n=len(groups))


def _parts(count: int, *, size: int = 200) -> list[NDArray[np.intp]]:
    """The numbers from 0, some at a time, so that many questions stay within tens of MB."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mean rank of each row among rows repeated by their weights, [..., rows]."""
    unique, place = np.unique(values, return_inverse=True)
    sizes = weights @ (place[:, None] == np.arange(len(unique))).astype(np.float64)
    return np.asarray(np.cumsum(sizes, axis=-1) - (sizes - 1) / 2, dtype=np.float64)[..., place]


def _ratio(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """NaN where the lower one vanishes."""
    defined = np.asarray(bottom) > 1e-12
    return np.asarray(np.where(defined, top / np.where(defined, bottom, 1.0), np.nan), dtype=np.float64)
