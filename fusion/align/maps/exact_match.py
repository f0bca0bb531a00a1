"""EM: the source speaks where its token is the pivot's, in the words both vocabularies have (FuseLLM, `hard`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fusion.align.matches import START, Decision, Labelled, Matches, decide, inputs
from fusion.align.pair import VocabularyPair, by_role
from fusion.align.project import IdMap
from fusion.align.statistics import CoOccurrence


def exact_match_map(pair: VocabularyPair, statistics: Callable[[], CoOccurrence]) -> IdMap:
    """Source pieces the pivot has too, special tokens included; all others are dropped.  The statistics are not used.

    `released` compares vocabulary entries behind the exchange of the space marker, which is what the code does, and
    special tokens by name; the other readings compare canonical text, and special tokens go by their role.
    """
    if pair.reading == "released":
        return IdMap(ids=pair.respelled("pieces").equal_strings())
    return IdMap(ids=by_role(pair.respelled("canonical").equal_strings(), pair))


class EqualToken:
    """Transfer where a pivot token is matched with one source token, and their strings are equal."""

    def __init__(self, pair: VocabularyPair, id_map: Callable[[], IdMap]) -> None:
        self._numbers = pair.string_numbers

    def __call__(self, matches: Matches, pivot: Labelled, source: Labelled) -> Decision:
        ours, theirs = self._numbers
        position = matches.only()
        equal = ours[inputs(pivot)] == theirs[np.append(inputs(source), START)[position]]
        return decide(position, (position >= 0) & equal)
