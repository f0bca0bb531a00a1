"""MinED: as EM, but a token the pivot lacks stands for the pivot token nearest to it (FuseLLM, `soft`).

FuseChat's release of it cannot run (it takes the distance to a whole vocabulary for one number, and looks the map up by
position), so `released` means FuseLLM's.  Its cosine of co-occurrence vectors among equal distances is an option there
and is not done here, nor is its special case for the first token of a GPT-NeoX source.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fusion.align.matches import START, Decision, Labelled, Matches, decide, inputs
from fusion.align.pair import VocabularyPair, by_role
from fusion.align.project import IdMap
from fusion.align.statistics import CoOccurrence
from fusion.distribution import NO_TOKEN
from fusion.runtime.edit_distance import nearest_ids, numbered


def min_edit_distance_map(pair: VocabularyPair, statistics: Callable[[], CoOccurrence]) -> IdMap:
    """The pivot token of equal string, else the one at the least Levenshtein distance, of several the lowest id.

    `released` compares vocabulary entries and lets any entry stand for any other; the other readings compare canonical
    text among tokens that have one, and special tokens go by their role or nowhere.  The statistics are not used.
    """
    released = pair.reading == "released"
    spelled = pair.respelled("pieces" if released else "canonical")
    ids = spelled.equal_strings()
    ours = [i for i, piece in enumerate(pair.pivot.pieces) if piece is not None]
    theirs = [i for i, piece in enumerate(pair.source.pieces) if piece is not None and ids[i] == NO_TOKEN]
    if not released:
        ours = [i for i in ours if pair.pivot.spelled[i] is not None]
        theirs = [i for i in theirs if pair.source.spelled[i] is not None]
    if ours and theirs:
        source, pivot = numbered([spelled.source_strings[i] for i in theirs], [spelled.pivot_strings[i] for i in ours])
        found = nearest_ids(source, np.arange(len(theirs)), pivot)
        ids[np.array(theirs)] = np.array(ours, np.int32)[found]
    return IdMap(ids=ids if released else by_role(ids, pair))


class MappedToken:
    """Transfer where a pivot token is matched with one source token that is equal to it or is mapped to it."""

    def __init__(self, pair: VocabularyPair, id_map: Callable[[], IdMap]) -> None:
        self._numbers = pair.string_numbers
        self._ids = np.append(id_map().ids, NO_TOKEN)  # the last entry is what START (-1) reaches

    def __call__(self, matches: Matches, pivot: Labelled, source: Labelled) -> Decision:
        ours, theirs = self._numbers
        position = matches.only()
        here, there = inputs(pivot), np.append(inputs(source), START)[position]
        equal = (ours[here] == theirs[there]) | ((self._ids[there] == here) & (here >= 0))
        return decide(position, (position >= 0) & equal)
