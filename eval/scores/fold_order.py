"""Orders in which cross-validation deals groups to folds, by name, so that a published penalty can be found again.

The alpaca-eval package chooses its penalty by scikit-learn's `GroupKFold`, which sorts the groups by size and gives
each in turn to the lightest fold.  All its groups have size two, so the folds depend only on what the sort does with
ties.  `stable` is scikit-learn's own order since 1.9 (its pull request 28464); `numpy1` is what older versions did with
numpy < 2 on a processor without vector sorting, the order behind most of the published leaderboard.

    splitter = group_k_fold(FOLD_ORDERS["numpy1"])(n_splits=5)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

# At most so many elements are sorted by insertion.
_SMALL = 16

Argsort = Callable[[Sequence[int]], list[int]]


def stable_argsort(keys: Sequence[int]) -> list[int]:
    """Positions by rising key; ties stay in order."""
    return sorted(range(len(keys)), key=keys.__getitem__)


def numpy1_argsort(keys: Sequence[int]) -> list[int]:
    """Positions by rising key; ties end where numpy 1's scalar introsort leaves them.

    Quicksort around the median of first, middle and last; pieces of up to 16 are sorted by insertion; the larger piece
    waits on a stack.  Numpy turns to heapsort where the partitions are very uneven; tied keys always halve.
    """
    order = list(range(len(keys)))
    waiting = [(0, len(order) - 1)]
    while waiting:
        left, right = waiting.pop()
        while right - left >= _SMALL:
            middle = _partition(order, keys, left, right)
            below, above = (left, middle - 1), (middle + 1, right)
            smaller_first = middle - left < right - middle
            waiting.append(above if smaller_first else below)
            left, right = below if smaller_first else above
        _insertion_sort(order, keys, left, right)
    return order


FOLD_ORDERS: Mapping[str, Argsort] = MappingProxyType({"stable": stable_argsort, "numpy1": numpy1_argsort})


def folds(sizes: Sequence[int], n_splits: int, argsort: Argsort) -> list[int]:
    """The fold of every group: largest first, each to the fold that holds least so far (the first of equals)."""
    held = [0] * n_splits
    fold = [0] * len(sizes)
    for group in reversed(argsort(sizes)):
        fold[group] = held.index(min(held))
        held[fold[group]] += sizes[group]
    return fold


def group_k_fold(argsort: Argsort) -> type[Any]:
    """A `sklearn.model_selection.GroupKFold` that deals groups in the order of `argsort`."""
    from sklearn.model_selection import GroupKFold

    class Ordered(GroupKFold):
        def _iter_test_indices(self, X: object, y: object, groups: NDArray[np.generic]) -> Iterator[NDArray[np.intp]]:
            _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            fold = np.array(folds(sizes.tolist(), self.n_splits, argsort))[group]
            for number in range(self.n_splits):
                yield np.flatnonzero(fold == number)

    return Ordered


def _partition(order: list[int], keys: Sequence[int], left: int, right: int) -> int:
    """Put the median of three at its place, smaller keys before it and larger behind it; return that place."""

    def swap(a: int, b: int) -> None:
        order[a], order[b] = order[b], order[a]

    middle = left + (right - left) // 2
    for low, high in ((left, middle), (middle, right), (left, middle)):
        if keys[order[high]] < keys[order[low]]:
            swap(low, high)
    pivot = keys[order[middle]]
    swap(middle, right - 1)
    up, down = left, right - 1
    while True:
        # Ties stop both scans, so they change sides: this is what makes the order unstable.
        up += 1
        while keys[order[up]] < pivot:
            up += 1
        down -= 1
        while pivot < keys[order[down]]:
            down -= 1
        if up >= down:
            break
        swap(up, down)
    swap(up, right - 1)
    return up


def _insertion_sort(order: list[int], keys: Sequence[int], left: int, right: int) -> None:
    for place in range(left + 1, right + 1):
        moved = order[place]
        while place > left and keys[moved] < keys[order[place - 1]]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = moved
