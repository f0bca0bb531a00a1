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
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusion.align.matches import START, Labelled, Matches, inputs
from fusion.align.pair import VocabularyPair
from fusion.runtime.edit_distance import cost_table, numbered


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
            first, last = warp(self._costs(ours[mine], theirs[other]), self._source_first)
            counts[mine] = last - first + 1
            found.append(_ranges(first, last) + other[0])
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        positions = np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)
        return Matches(offset=offset, positions=positions)

    def _costs(self, ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> NDArray[np.int32]:
        """c(s_i, b_j), [source, pivot]; every pair of different strings is computed once a turn."""
        pivot_ids, at = np.unique(np.where(ours == START, len(self._whole[1]) - 1, ours), return_inverse=True)
        source_ids, row = np.unique(np.where(theirs == START, len(self._whole[0]) - 1, theirs), return_inverse=True)
        source, pivot = self._stripped
        table = cost_table(source, source_ids.astype(np.int64), pivot, pivot_ids.astype(np.int64))
        if self._whole_when_empty:
            blank_rows = np.flatnonzero(np.diff(source.start)[source_ids] == 0)
            blank_columns = np.flatnonzero(np.diff(pivot.start)[pivot_ids] == 0)
            source, pivot = self._whole
            if len(blank_rows):
                table[blank_rows] = cost_table(source, source_ids[blank_rows], pivot, pivot_ids.astype(np.int64))
            if len(blank_columns):
                table[:, blank_columns] = cost_table(
                    source, source_ids.astype(np.int64), pivot, pivot_ids[blank_columns]
                )
        costs: NDArray[np.int32] = _spread(table, row, at)
        return costs


@njit(cache=True)
def _spread(table, row, column):  # type: ignore[no-untyped-def]
    costs = np.empty((len(row), len(column)), np.int32)
    for i in range(len(row)):
        values = table[row[i]]
        for j in range(len(column)):
            costs[i, j] = values[column[j]]
    return costs


@njit(cache=True)
def warp(costs, source_first):  # type: ignore[no-untyped-def]
    """The path through `costs` [n source, m pivot]: for every pivot token its first and last source token, [m] each.

    A warping path moves by one at most, so the source tokens of a pivot token are a range.
    """
    n, m = costs.shape
    total = np.empty((n, m), np.int32)
    total[0, 0] = costs[0, 0]
    for j in range(1, m):
        total[0, j] = total[0, j - 1] + costs[0, j]
    for i in range(1, n):
        total[i, 0] = total[i - 1, 0] + costs[i, 0]
        for j in range(1, m):
            total[i, j] = costs[i, j] + min(total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
    first, last = np.empty(m, np.int32), np.empty(m, np.int32)
    i, j = n - 1, m - 1
    last[j] = i
    while i > 0 or j > 0:
        if i == 0:
            step = 1
        elif j == 0:
            step = 2
        else:
            diagonal, above, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            least = min(diagonal, above, left)
            if diagonal == least:
                step = 0
            elif source_first:
                step = 2 if above == least else 1
            else:
                step = 1 if left == least else 2
        if step != 2:
            first[j] = i
            j -= 1
        if step != 1:
            i -= 1
        if step != 2:
            last[j] = i
    first[0] = 0
    return first, last


def _ranges(first: NDArray[np.int32], last: NDArray[np.int32]) -> NDArray[np.int64]:
    """first[0]..last[0], first[1]..last[1], ... end to end."""
    lengths = (last - first + 1).astype(np.int64)
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(first.astype(np.int64), lengths)
