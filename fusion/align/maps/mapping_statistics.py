"""MS: what is matched with what over the corpus says which pivot token a source token stands for (FuseChat)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusion.align.matches import EMPTY, ONE_HOT, START, TRANSFERRED, Decision, Labelled, Matches, inputs
from fusion.align.pair import VocabularyPair, by_role
from fusion.align.project import IdMap
from fusion.align.statistics import CoOccurrence
from fusion.distribution import NO_TOKEN
from fusion.runtime.edit_distance import Strings, numbered, pair_distances

_CONTAINED = 0.1  # the release's discount when one string contains the other


def mapping_statistics_map(pair: VocabularyPair, statistics: Callable[[], CoOccurrence]) -> IdMap:
    """The pivot token of equal string; else, of the pivot tokens the source token was matched with,

      paper, fixed   the one it was matched with most often; of several the nearest by edit distance, then the lowest id
      released       argmin of edit distance (a tenth of it where one string contains the other) times
                     sigmoid(count), the lowest id of several.  The sigmoid grows with the count, so of two tokens at
                     one distance the rarer wins, and counts beyond some 40 are all alike.

    A source token never matched has no pivot token; `released` gives it the pivot's unknown token, or its end token.
    Only `released` lets an unknown or control token, which spells no text, stand for one that does.
    """
    released = pair.reading == "released"
    spelled = pair.respelled("pieces" if released else "canonical")
    counts = statistics() if released else _of_text(statistics(), pair)
    distance = _distances(spelled, counts.source_ids, counts.pivot_ids)
    if released:
        contained = _contained(spelled, counts.source_ids, counts.pivot_ids)
        weighted = np.where(contained, _CONTAINED, 1.0) * distance / (1.0 + np.exp(-counts.count.astype(np.float64)))
        order = np.lexsort((counts.pivot_ids, weighted, counts.source_ids))
    else:
        order = np.lexsort((counts.pivot_ids, distance, -counts.count, counts.source_ids))
    unseen = NO_TOKEN if not released else pair.pivot.unk if pair.pivot.unk is not None else pair.pivot.eos
    ids = np.full(len(pair.source), NO_TOKEN if unseen is None else unseen, np.int32)
    seen, first = np.unique(counts.source_ids[order], return_index=True)
    ids[seen] = counts.pivot_ids[order][first]
    if released:
        for theirs, ours in ((pair.source.bos, pair.pivot.bos), (pair.source.eos, pair.pivot.eos)):
            if theirs is not None and ours is not None:
                ids[theirs] = ours
    equal = spelled.equal_strings()
    ids = np.where(equal != NO_TOKEN, equal, ids).astype(np.int32)
    return IdMap(ids=ids if released else by_role(ids, pair))


class SuffixToken:
    """FuseChat's rule, over the strings of the matched tokens.

    One source token: transfer when one of the strings ends with the other, which of several pivot tokens that share a
    source token lets the last pass.  Several source tokens: the first of which, without its space, the same holds;
    else, when tokens in their order spell the pivot token, from the last of these; else, when all of them
    joined end with it or it ends with them, nothing (the pivot keeps its own distribution); else the gold token.
    Nothing is spelled across an unknown token, which stands for text of its own.

    `released` lets an empty decoded string pass every test, and reads an unknown token as its name.
    """

    def __init__(self, pair: VocabularyPair, id_map: Callable[[], IdMap]) -> None:
        ours, theirs = pair.pivot_strings, pair.source_strings
        space = pair.space
        self._strings = numbered(
            ours, theirs, [s.replace(space, "") for s in ours], [s.replace(space, "") for s in theirs]
        )
        self._empty_passes = pair.reading == "released"
        self._unknown = None if pair.reading == "released" else pair.source.unknown

    def __call__(self, matches: Matches, pivot: Labelled, source: Labelled) -> Decision:
        ours, theirs, ours_stripped, theirs_stripped = self._strings
        kind, position = _suffix_rule(
            matches.offset,
            matches.positions,
            inputs(pivot),
            inputs(source),
            (ours.codes, ours.start),
            (theirs.codes, theirs.start),
            (ours_stripped.codes, ours_stripped.start),
            (theirs_stripped.codes, theirs_stripped.start),
            self._empty_passes,
            START if self._unknown is None else self._unknown,
        )
        return Decision(kind=kind, source_position=position)


def _of_text(counts: CoOccurrence, pair: VocabularyPair) -> CoOccurrence:
    """The pairs of which both tokens spell text."""
    source, pivot = (
        np.array([spelled is not None for spelled in one.spelled], np.bool_) for one in (pair.source, pair.pivot)
    )
    both = source[counts.source_ids] & pivot[counts.pivot_ids]
    return CoOccurrence(source_ids=counts.source_ids[both], pivot_ids=counts.pivot_ids[both], count=counts.count[both])


def _distances(pair: VocabularyPair, source_ids: NDArray[np.int64], pivot_ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """Edit distances without space markers, with them where nothing is left of either string."""
    theirs, ours = pair.source_strings, pair.pivot_strings

    def of(source: Strings, pivot: Strings) -> NDArray[np.int32]:
        return pair_distances(source, source_ids, pivot, pivot_ids)

    source, pivot = numbered([s.replace(pair.space, "") for s in theirs], [s.replace(pair.space, "") for s in ours])
    blank = (np.diff(source.start)[source_ids] == 0) | (np.diff(pivot.start)[pivot_ids] == 0)
    return np.where(blank, of(*numbered(theirs, ours)), of(source, pivot)).astype(np.int32)


def _contained(pair: VocabularyPair, source_ids: NDArray[np.int64], pivot_ids: NDArray[np.int64]) -> list[bool]:
    """Whether one of the two strings that `_distances` compares holds the other."""
    found = []
    for source_id, pivot_id in zip(source_ids.tolist(), pivot_ids.tolist(), strict=True):
        whole = pair.source_strings[source_id], pair.pivot_strings[pivot_id]
        stripped = [string.replace(pair.space, "") for string in whole]
        theirs, ours = stripped if all(stripped) else whole
        found.append(ours in theirs or theirs in ours)
    return found


@njit(cache=True)
def _string(table, token_id):  # type: ignore[no-untyped-def]
    codes, start = table
    return codes[start[token_id] : start[token_id + 1]]


@njit(cache=True)
def _ends(long, short):  # type: ignore[no-untyped-def]
    """Whether `long` ends with `short`."""
    if len(short) > len(long):
        return False
    return bool(np.all(long[len(long) - len(short) :] == short))


@njit(cache=True)
def _one_ends_the_other(a, b, empty_passes):  # type: ignore[no-untyped-def]
    if len(a) == 0 or len(b) == 0:
        return empty_passes or len(a) == len(b)
    return _ends(a, b) or _ends(b, a)


@njit(cache=True)
def _suffix_rule(offset, positions, ours, theirs, p_whole, s_whole, p_stripped, s_stripped, empty_passes, unknown):  # type: ignore[no-untyped-def]
    rows = len(offset) - 1
    kind = np.full(rows, ONE_HOT, np.uint8)
    position = np.full(rows, START, np.int32)
    for i in range(rows):
        matched = positions[offset[i] : offset[i + 1]]
        for j in matched:  # START stands for the same template text on both sides and for nothing else
            if ours[i] == START and theirs[j] == START:
                kind[i], position[i] = TRANSFERRED, j
        if len(matched) == 0 or ours[i] == START:
            continue
        whole = _string(p_whole, ours[i])
        if len(matched) == 1:
            j = matched[0]
            if theirs[j] != START and _one_ends_the_other(whole, _string(s_whole, theirs[j]), empty_passes):
                kind[i], position[i] = TRANSFERRED, j
            continue
        for j in matched:
            if theirs[j] != START and _one_ends_the_other(whole, _string(s_stripped, theirs[j]), empty_passes):
                kind[i], position[i] = TRANSFERRED, j
                break
        if kind[i] == TRANSFERRED:
            continue
        rest = _string(p_stripped, ours[i])
        over, joined = len(rest) == 0, 0
        for j in matched:
            if theirs[j] == START:
                continue
            over = over or theirs[j] == unknown
            piece = _string(s_stripped, theirs[j])
            joined += len(_string(s_whole, theirs[j]))
            if not over and 0 < len(piece) <= len(rest) and np.all(rest[: len(piece)] == piece):
                rest = rest[len(piece) :]
                if len(rest) == 0:
                    over = True
                    kind[i], position[i] = TRANSFERRED, j
        if kind[i] == TRANSFERRED:
            continue
        everything = np.empty(joined, np.int32)
        at = 0
        for j in matched:
            if theirs[j] != START:
                piece = _string(s_whole, theirs[j])
                everything[at : at + len(piece)] = piece
                at += len(piece)
        if _one_ends_the_other(whole, everything, empty_passes):
            kind[i] = EMPTY
    return kind, position
