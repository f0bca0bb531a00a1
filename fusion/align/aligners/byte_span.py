"""Exact sequence alignment by text position.

A source distribution may stand at a pivot position iff both predict what follows the same prefix of the text.  The
papers guess that from the strings of the tokens; the byte offsets of the labels say it.  Linear in the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from fusion.align.matches import Decision, Labelled, Matches, TransferRule, decide, text_key
from fusion.align.pair import VocabularyPair
from fusion.align.project import IdMap


class ByteSpan:
    """Match the positions of the same turn whose labels begin at the same byte.

    Where several labels of one tokenizer begin at one byte (a token that stands for no text comes first), they are
    paired from the last one backwards: the last has all of the prefix behind it, and equal tokenisations stay paired.
    The end-of-turn labels begin at the end of the content, and so are matched with each other.
    """

    knows_the_text: ClassVar[bool] = True

    def __init__(self, pair: VocabularyPair | None = None) -> None:
        """The strings of the tokens are not needed; `pair` is what every aligner is made from."""

    def __call__(self, pivot: Labelled, source: Labelled) -> Matches:
        ours, theirs = text_key(pivot), text_key(source)
        behind = np.searchsorted(ours, ours, side="right") - np.arange(len(ours))
        position = np.searchsorted(theirs, ours, side="right") - behind
        found = position >= 0
        found[found] = theirs[position[found]] == ours[found]
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(found)])
        return Matches(offset=offset, positions=position[found].astype(np.int32))


def every_match(pair: VocabularyPair, id_map: Callable[[], IdMap]) -> TransferRule:
    """The rule of an aligner that knows the text: whatever is matched is transferred, from the last match."""
    return _transfer_every_match


def _transfer_every_match(matches: Matches, pivot: Labelled, source: Labelled) -> Decision:
    position = matches.last()
    return decide(position, position >= 0)
