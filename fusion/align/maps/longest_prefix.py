"""The exact map, and for a token that the pivot lacks the longest pivot token that its text begins with.

A source that says " international" says that the text goes on with " inter", and a pivot that writes the word in pieces
writes some such piece next.  Its own tokenizer may cut the word elsewhere: a guess, where `string` makes none.  No text
is left behind that begins with a token of the pivot's, so none at all where the pivot has every byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.align.maps.string_map import string_map, with_space, without_space
from fusion.align.pair import VocabularyPair
from fusion.align.project import IdMap
from fusion.align.statistics import CoOccurrence
from fusion.distribution import NO_TOKEN


def longest_prefix_map(pair: VocabularyPair, statistics: Callable[[], CoOccurrence]) -> IdMap:
    """Equal canonical bytes, else the longest prefix of them, also at a turn's border.  The statistics are not used."""
    exact, known = string_map(pair, statistics).table(), pair.pivot_by_bytes()
    spelled = pair.source.spelled
    texts = (spelled, [with_space(text) for text in spelled], [without_space(text) for text in spelled])
    ids, added, removed = (_filled(row, of, known) for row, of in zip(exact, texts, strict=True))
    return IdMap(ids=ids, ids_space_added=added, ids_space_removed=removed)


def _filled(ids: NDArray[np.int32], texts: Sequence[bytes | None], known: Mapping[bytes, int]) -> NDArray[np.int32]:
    """`ids` [V] with what it lacks: for text the id of the longest of `known` that it begins with, if any."""
    filled = ids.copy()
    for token_id in np.flatnonzero(ids == NO_TOKEN).tolist():
        text = texts[token_id] or b""
        prefixes = (text[:end] for end in range(len(text) - 1, 0, -1))
        filled[token_id] = next((known[prefix] for prefix in prefixes if prefix in known), NO_TOKEN)
    return filled
