"""How often a source token was matched with a pivot token, over a whole corpus; sparse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.align.matches import START, Labelled, Matches, inputs

_PIECE = 2_000_000  # pairs held before they are counted


@dataclass(frozen=True, kw_only=True, eq=False)
class CoOccurrence:
    """Pair `i` of a source id and a pivot id was matched `count[i]` times; ordered by source id, then pivot id."""

    source_ids: NDArray[np.int64]
    pivot_ids: NDArray[np.int64]
    count: NDArray[np.int64]


def co_occurrence(rows: Iterable[tuple[Matches, Labelled, Labelled]]) -> CoOccurrence:
    """Count, for each occurrence of a pivot token, each distinct source token it is matched with, once.

    `rows` are (matches, pivot row, source row).  What is counted are the matched tokens, those in front of the labels.
    A dense table of the counts would take 24 GB for two real vocabularies (the releases keep one); this takes 24 bytes
    for each pair that was seen.
    """
    keys, counts, waiting, held = np.zeros(0, np.int64), np.zeros(0, np.int64), [], 0
    for matches, pivot, source in rows:
        waiting.append(_pairs(matches, inputs(pivot), inputs(source)))
        held += len(waiting[-1])
        if held > _PIECE:
            keys, counts = _counted(keys, counts, waiting)
            waiting, held = [], 0
    keys, counts = _counted(keys, counts, waiting)
    return CoOccurrence(source_ids=keys >> 32, pivot_ids=keys & 0xFFFFFFFF, count=counts)


def _pairs(matches: Matches, ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> NDArray[np.int64]:
    where = np.repeat(np.arange(len(matches)), matches.counts)
    source_ids = theirs[matches.positions].astype(np.int64)
    known = (source_ids != START) & (ours[where] != START)
    where, source_ids = where[known], source_ids[known]
    once = np.unique(where << 32 | source_ids)  # a source token twice in one match counts once
    pairs: NDArray[np.int64] = (once & 0xFFFFFFFF) << 32 | ours[once >> 32].astype(np.int64)
    return pairs


def _counted(
    keys: NDArray[np.int64], counts: NDArray[np.int64], waiting: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    every = np.concatenate([keys, *waiting])
    weight = np.concatenate([counts, np.ones(len(every) - len(keys), np.int64)])
    found, at = np.unique(every, return_inverse=True)
    total = np.zeros(len(found), np.int64)
    np.add.at(total, at, weight)
    return found, total
