"""The papers' sequence alignment: the cheapest warping path between two tokenisations of one text.

FuseLLM (2401.10491) and FuseChat (2402.16107, 2408.07990) warp one token sequence onto the other,
    D[i, j] = c(s_i, b_j) + min(D[i-1, j], D[i, j-1], D[i-1, j-1]),
with c the Levenshtein distance of the two tokens' strings without their space markers; where nothing is left of either,
of both strings with them.  Of equal predecessors the path takes the first of
  paper, fixed         diagonal, source - 1, pivot - 1  (FuseLLM and FuseChat's first release), over canonical text;
  released, `decoded`  diagonal, pivot - 1, source - 1  (FuseChat's second release), over separately decoded tokens;
  released, `pieces`   diagonal, source - 1, pivot - 1  (FuseLLM), over vocabulary pieces; no rule for empty strings.
Decoded strings hold spaces and no markers, so there nothing is stripped, as in that release.

We depart in what is aligned: the assistant's turns one by one and nothing else, where the releases align the rendered
row with its template and 2048 positions of padding; START stands for the template in front of a turn.  A path's two
ends are always matched: START with START and, in turns that are whole, the last content tokens with each other.

D is quadratic in a turn's tokens and held a block of rows at a time: what is kept of the others is the row in front of
each block, from which its rows are made again when the path comes back to it.  So a turn of N tokens takes memory in
proportion to N * sqrt(N), and one that fits a block is gone through once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusion.align.matches import START, Labelled, Matches, inputs
from fusion.align.pair import VocabularyPair
from fusion.runtime.edit_distance import cost_table, numbered

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64

_CELLS_AT_ONCE = 2**22  # of D in memory, 16 MB; more only where the square root of a turn's tokens is more rows
_UNREACHED = np.int32(2**31 - 1)

# From source token `begin` to `end`: a table of costs, and for each of these tokens its row of it.
BlockCosts = Callable[[int, int], tuple[NDArray[np.int32], NDArray[np.int64]]]


class TokenDTW:
    """Warping path between the tokens in front of the labels, turn by turn."""

    knows_the_text: ClassVar[bool] = False

    def __init__(self, pair: VocabularyPair) -> None:
        ours, theirs = [*pair.pivot_strings, ""], [*pair.source_strings, ""]  # START is the last, empty string
        self._source_first = not (pair.reading == "released" and pair.spelling == "decoded")
        self._whole_when_empty = not (pair.reading == "released" and pair.spelling == "pieces")
        self._stripped = numbered(
            [s.replace(pair.space, "") for s in theirs], [s.replace(pair.space, "") for s in ours]
        )
        self._whole = numbered(theirs, ours)

    def __call__(self, pivot: Labelled, source: Labelled) -> Matches:
        ours, theirs = inputs(pivot), inputs(source)
        counts, found = np.zeros(len(ours), np.int64), []
        for turn in np.unique(pivot.turn):
            mine, other = np.flatnonzero(pivot.turn == turn), np.flatnonzero(source.turn == turn)
            if not len(other):
                continue  # the source's row was cut before this turn
            first, last = self._path(ours[mine], theirs[other])
            counts[mine] = last - first + 1
            found.append(_ranges(first, last) + other[0])
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        positions = np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)
        return Matches(offset=offset, positions=positions)

    def _path(
        self, ours: Int32[NDArray[np.int32], " m"], theirs: Int32[NDArray[np.int32], " n"]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """`warp` of a turn's tokens; every pair of different strings is computed once a block."""
        pivot_ids, column = np.unique(np.where(ours == START, len(self._whole[1]) - 1, ours), return_inverse=True)
        there = np.where(theirs == START, len(self._whole[0]) - 1, theirs)

        def costs(begin: int, end: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
            source_ids, row = np.unique(there[begin:end], return_inverse=True)
            return self._table(source_ids.astype(np.int64), pivot_ids.astype(np.int64)), row

        rows = max(math.isqrt(len(theirs)), _CELLS_AT_ONCE // len(ours), 1)
        return warp(costs, len(theirs), column, source_first=self._source_first, rows_at_once=rows)

    def _table(
        self, source_ids: Int64[NDArray[np.int64], " S"], pivot_ids: Int64[NDArray[np.int64], " P"]
    ) -> Int32[NDArray[np.int32], "S P"]:
        """c(s, b) of each of these source and pivot strings."""
        source, pivot = self._stripped
        table = cost_table(source, source_ids, pivot, pivot_ids)
        if self._whole_when_empty:
            blank_rows = np.flatnonzero(np.diff(source.start)[source_ids] == 0)
            blank_columns = np.flatnonzero(np.diff(pivot.start)[pivot_ids] == 0)
            source, pivot = self._whole
            if len(blank_rows):
                table[blank_rows] = cost_table(source, source_ids[blank_rows], pivot, pivot_ids)
            if len(blank_columns):
                table[:, blank_columns] = cost_table(source, source_ids, pivot, pivot_ids[blank_columns])
        return table


def warp(
    costs: BlockCosts, n: int, column: Int64[NDArray[np.int64], " m"], *, source_first: bool, rows_at_once: int
) -> tuple[Int32[NDArray[np.int32], " m"], Int32[NDArray[np.int32], " m"]]:
    """The cheapest path of n source and m pivot tokens: for every pivot token its first and last source token.

    A warping path moves by one at most, so the source tokens of a pivot token are a range.  Source token i and pivot
    token j cost what stands in i's row of the table and in `column[j]`.  The path and its ties are the same however
    many rows are held at once.
    """
    m = len(column)
    before = np.full(m + 1, _UNREACHED)
    before[0] = 0
    edges = [*range(0, n, rows_at_once), n]
    fronts = [before]  # the row in front of each block
    for begin, end in pairwise(edges[:-1]):
        fronts.append(_totals(*costs(begin, end), column, fronts[-1])[-1].copy())
    first, last = np.empty(m, np.int32), np.empty(m, np.int32)
    j, last[-1] = m - 1, n - 1
    for (begin, end), front in zip(reversed([*pairwise(edges)]), reversed(fronts), strict=True):
        total = _totals(*costs(begin, end), column[: j + 1], front[: j + 2])
        j = _back(total, begin, j, source_first, first, last)
        del total  # before the next one is made
    first[0] = 0
    return first, last


@njit(cache=True)
def _totals(table, row, column, front):  # type: ignore[no-untyped-def]
    """D of a block of rows; in front of its first row and column stand what lies there, or cells no path reaches."""
    n, m = len(row), len(column)
    total = np.empty((n + 1, m + 1), np.int32)
    total[0] = front
    for i in range(n):
        values = table[row[i]]
        total[i + 1, 0] = _UNREACHED
        for j in range(m):
            total[i + 1, j + 1] = values[column[j]] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return total


@njit(cache=True)
def _back(total, begin, j, source_first, first, last):  # type: ignore[no-untyped-def]
    """Follow the path from the block's last row and pivot token `j` out of the block; the pivot token it leaves by."""
    i = len(total) - 2
    while i >= 0 and begin + i + j > 0:
        diagonal, above, left = total[i, j], total[i, j + 1], total[i + 1, j]
        least = min(diagonal, above, left)
        if diagonal == least:
            step = 0
        elif source_first:
            step = 2 if above == least else 1
        else:
            step = 1 if left == least else 2
        if step != 2:
            first[j] = begin + i
            j -= 1
        if step != 1:
            i -= 1
        if step != 2:
            last[j] = begin + i
    return j


def _ranges(first: NDArray[np.int32], last: NDArray[np.int32]) -> NDArray[np.int64]:
    """first[0]..last[0], first[1]..last[1], ... end to end."""
    lengths = (last - first + 1).astype(np.int64)
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(first.astype(np.int64), lengths)
