"""Levenshtein distances between many short strings, compiled.

Shared by the alignment, the vocabulary maps of fusion and evaluation, and the judge that compares strings.

One string against many is the whole work of the papers' alignment and of their vocabulary map, so the pattern's bit
vectors are made once and every text runs through them (Myers 1999 in Hyyro's form for the global distance): one
machine word per character of the text, for patterns of up to 64 characters; longer ones take the usual table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

_WORD = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Strings:
    """Strings end to end: string `i` is `codes[start[i]:start[i + 1]]`, its letters are 0 to `letters - 1`."""

    codes: NDArray[np.int32]
    start: NDArray[np.int64]
    letters: int

    def __len__(self) -> int:
        return len(self.start) - 1


def numbered(*collections: Sequence[str]) -> list[Strings]:
    """The collections over one common numbering of their letters (Unicode code points, lone surrogates included)."""
    parts = [np.frombuffer("".join(strings).encode("utf-32-le", "surrogatepass"), np.uint32) for strings in collections]
    alphabet, codes = np.unique(np.concatenate([*parts, np.zeros(0, np.uint32)]), return_inverse=True)
    found, at = [], 0
    for strings, part in zip(collections, parts, strict=True):
        lengths = np.fromiter((len(string) for string in strings), np.int64, len(strings))
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        found.append(Strings(codes=codes[at : at + len(part)].astype(np.int32), start=start, letters=len(alphabet)))
        at += len(part)
    return found


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance in characters; insert, delete and replace cost 1."""
    one, other = numbered([first], [second])
    only = np.zeros(1, np.int64)
    return int(pair_distances(one, only, other, only)[0])


def cost_table(
    source: Strings, source_ids: NDArray[np.int64], pivot: Strings, pivot_ids: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Levenshtein distance of every chosen source string to every chosen pivot string, [sources, pivots]."""
    costs: NDArray[np.int32] = _cost_table(
        source.codes, source.start, source_ids, pivot.codes, pivot.start, pivot_ids, source.letters
    )
    return costs


def pair_distances(
    source: Strings, source_ids: NDArray[np.int64], pivot: Strings, pivot_ids: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Levenshtein distance of `source_ids[i]` to `pivot_ids[i]`. [pairs]"""
    distances: NDArray[np.int32] = _pair_distances(
        source.codes, source.start, source_ids, pivot.codes, pivot.start, pivot_ids, source.letters
    )
    return distances


def nearest_ids(source: Strings, source_ids: NDArray[np.int64], pivot: Strings) -> NDArray[np.int64]:
    """For every chosen source string the pivot string at the least distance; of several, the one with the lowest id.

    Exact.  Pivot strings are visited by difference of length, which bounds the distance from below, as the number of
    letters that only one of the two has does; few pairs need a distance.
    """
    lengths = np.diff(pivot.start)
    order = np.argsort(lengths, kind="stable")  # within a length: ids ascending
    longest = int(lengths.max(initial=0))
    first = np.searchsorted(lengths[order], np.arange(longest + 2))
    classes = _letter_classes(source, pivot)
    nearest: NDArray[np.int64] = _nearest_ids(
        source.codes,
        source.start,
        source_ids,
        _letter_sets(source.codes, source.start, classes),
        pivot.codes,
        pivot.start,
        order,
        first,
        _letter_sets(pivot.codes, pivot.start, classes)[order],
        source.letters,
    )
    return nearest


@njit(cache=True)
def distance(a, b, peq):  # type: ignore[no-untyped-def]
    """Levenshtein distance of two code arrays.  `peq` [letters] uint64 is zero and is left zero."""
    if len(a) > len(b):
        a, b = b, a
    if len(a) == 0:
        return len(b)
    if len(a) > _WORD:
        return _distance_by_table(a, b)
    _mark(a, peq)
    found = _through(len(a), b, 0, len(b), peq)
    _unmark(a, peq)
    return found


@njit(cache=True)
def _mark(a, peq):  # type: ignore[no-untyped-def]
    bit = np.uint64(1)
    for letter in a:
        peq[letter] |= bit
        bit = bit << np.uint64(1)


@njit(cache=True)
def _unmark(a, peq):  # type: ignore[no-untyped-def]
    for letter in a:
        peq[letter] = np.uint64(0)


@njit(cache=True)
def _through(m, codes, begin, end, peq):  # type: ignore[no-untyped-def]
    """Distance of the marked pattern of length `m` >= 1 to `codes[begin:end]`."""
    positive = np.uint64(0xFFFFFFFFFFFFFFFF)
    negative = np.uint64(0)
    last = np.uint64(1) << np.uint64(m - 1)
    score = m
    for at in range(begin, end):
        equal = peq[codes[at]]
        vertical = equal | negative
        horizontal = (((equal & positive) + positive) ^ positive) | equal
        up = negative | ~(horizontal | positive)
        down = positive & horizontal
        if up & last:
            score += 1
        elif down & last:
            score -= 1
        up = (up << np.uint64(1)) | np.uint64(1)
        down = down << np.uint64(1)
        positive = down | ~(vertical | up)
        negative = up & vertical
    return score


@njit(cache=True)
def _distance_by_table(a, b):  # type: ignore[no-untyped-def]
    row = np.arange(len(b) + 1)
    for i in range(len(a)):
        diagonal = row[0]
        row[0] = i + 1
        for j in range(len(b)):
            above = row[j + 1]
            row[j + 1] = min(above + 1, row[j] + 1, diagonal + (0 if a[i] == b[j] else 1))
            diagonal = above
    return row[len(b)]


@njit(cache=True)
def _cost_table(s_codes, s_start, s_ids, p_codes, p_start, p_ids, letters):  # type: ignore[no-untyped-def]
    table = np.empty((len(s_ids), len(p_ids)), np.int32)
    peq = np.zeros(letters + 1, np.uint64)
    for row in range(len(s_ids)):
        a = s_codes[s_start[s_ids[row]] : s_start[s_ids[row] + 1]]
        short = 0 < len(a) <= _WORD
        if short:
            _mark(a, peq)
        for column in range(len(p_ids)):
            begin, end = p_start[p_ids[column]], p_start[p_ids[column] + 1]
            if short:
                table[row, column] = _through(len(a), p_codes, begin, end, peq)
            elif len(a) == 0:
                table[row, column] = end - begin
            else:
                table[row, column] = _distance_by_table(a, p_codes[begin:end])
        if short:
            _unmark(a, peq)
    return table


@njit(cache=True)
def _pair_distances(s_codes, s_start, s_ids, p_codes, p_start, p_ids, letters):  # type: ignore[no-untyped-def]
    found = np.empty(len(s_ids), np.int32)
    peq = np.zeros(letters + 1, np.uint64)
    for i in range(len(s_ids)):
        a = s_codes[s_start[s_ids[i]] : s_start[s_ids[i] + 1]]
        b = p_codes[p_start[p_ids[i]] : p_start[p_ids[i] + 1]]
        found[i] = distance(a, b, peq)
    return found


def _letter_classes(source: Strings, pivot: Strings) -> NDArray[np.int64]:
    """A class from 0 to 127 for every letter: the 64 most used have one each, all others share the rest."""
    used = np.bincount(source.codes, minlength=source.letters) + np.bincount(pivot.codes, minlength=source.letters)
    rank = np.empty(source.letters, np.int64)
    rank[np.argsort(-used, kind="stable")] = np.arange(source.letters)
    return np.where(rank < _WORD, rank, _WORD + rank % _WORD)


@njit(cache=True)
def _letter_sets(codes, start, classes):  # type: ignore[no-untyped-def]
    """Which classes of letters a string has, in two words: a class that only one of two strings has costs an edit."""
    sets = np.zeros((len(start) - 1, 2), np.uint64)
    for i in range(len(sets)):
        for at in range(start[i], start[i + 1]):
            letter = classes[codes[at]]
            sets[i, letter // _WORD] |= np.uint64(1) << np.uint64(letter % _WORD)
    return sets


@intrinsic
def _ones(typing_context, word):  # type: ignore[no-untyped-def]
    """How many bits of a uint64 are set, in one instruction."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True)
def _nearest_ids(s_codes, s_start, s_ids, s_sets, p_codes, p_start, order, first, p_sets, letters):  # type: ignore[no-untyped-def]
    found = np.empty(len(s_ids), np.int64)
    peq = np.zeros(letters + 1, np.uint64)
    longest = len(first) - 2
    for row in range(len(s_ids)):
        a = s_codes[s_start[s_ids[row]] : s_start[s_ids[row] + 1]]
        often, rare = s_sets[s_ids[row], 0], s_sets[s_ids[row], 1]
        short = 0 < len(a) <= _WORD
        if short:
            _mark(a, peq)
        best, best_id = np.int64(2**31), np.int64(2**31)
        for turn in range(2 * (longest + len(a)) + 2):  # differences 0, -1, +1, -2, +2, ...
            gap = (turn + 1) // 2
            if gap > best:
                break
            length = len(a) - gap if turn % 2 else len(a) + gap
            if length < 0 or length > longest:
                continue
            for rank in range(first[length], first[length + 1]):
                allowed = best if order[rank] < best_id else best - 1  # a tie counts for a lower id only
                other_often, other_rare = p_sets[rank, 0], p_sets[rank, 1]
                if gap > allowed or np.int64(_ones(often & ~other_often) + _ones(rare & ~other_rare)) > allowed:
                    continue
                if np.int64(_ones(other_often & ~often) + _ones(other_rare & ~rare)) > allowed:
                    continue
                begin, end = p_start[order[rank]], p_start[order[rank] + 1]
                if ((often & other_often) | (rare & other_rare)) == 0:
                    cost = max(np.int64(len(a)), end - begin)  # no letter in common: all are replaced
                elif short:
                    cost = _through(len(a), p_codes, begin, end, peq)
                else:
                    cost = _distance_by_table(a, p_codes[begin:end])
                if cost < best or (cost == best and order[rank] < best_id):
                    best, best_id = cost, order[rank]
        found[row] = best_id
        if short:
            _unmark(a, peq)
    return found
