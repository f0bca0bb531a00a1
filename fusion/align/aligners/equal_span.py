"""Strict one-to-one alignment: only tokens that cut the text alike are matched.

Where two tokens begin together and end apart, both distributions predict what follows one prefix, but an outcome of one
is a part of an outcome of the other, or several.  byte_span carries such positions over and leaves it to the vocabulary
map what of them has an equal; here they are left out, as in arXiv 2610.08448.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fusion.align.aligners.byte_span import ByteSpan
from fusion.align.matches import Labelled, Matches
from fusion.align.pair import VocabularyPair


class EqualSpan:
    """Of ByteSpan's matches those whose labels also end at the same byte.

    What is not matched gets what ByteSpan's unmatched positions get, the gold token alone, so that the two differ in
    nothing but the positions where tokens of one start have different ends.
    """

    knows_the_text: ClassVar[bool] = True

    def __init__(self, pair: VocabularyPair | None = None) -> None:
        """The strings of the tokens are not needed; `pair` is what every aligner is made from."""

    def __call__(self, pivot: Labelled, source: Labelled) -> Matches:
        found = ByteSpan()(pivot, source)
        matched = np.flatnonzero(found.counts)  # each is with one source position
        equal = pivot.end[matched] == source.end[found.positions]
        counts = np.zeros(len(found), np.int64)
        counts[matched[equal]] = 1
        return Matches(
            offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), positions=found.positions[equal]
        )
