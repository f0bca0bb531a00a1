"""The vocabulary map that is exact: a source token becomes the pivot token that stands for the same bytes, or none.

Nothing is guessed, so probability mass is only ever moved between tokens that mean the same text; the rest of it stays
in the tail.  Special tokens go by their role, those without one by their name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fusion.align.pair import VocabularyPair, by_role
from fusion.align.project import IdMap
from fusion.align.statistics import CoOccurrence
from fusion.distribution import NO_TOKEN


def string_map(pair: VocabularyPair, statistics: Callable[[], CoOccurrence]) -> IdMap:
    """Equal canonical bytes.  The statistics are not used.

    A turn may begin inside a token for one tokenizer and not for the other: the space in front of its first word
    belongs to the template's text.  For such positions the map has two more rows: with a space put in front of what
    the source says, and with one taken off.
    """
    ids = pair.respelled("canonical").equal_strings()
    known, spelled = pair.pivot_by_bytes(), pair.source.spelled

    def ids_of(texts: list[bytes | None]) -> NDArray[np.int32]:
        return np.array([NO_TOKEN if text is None else known.get(text, NO_TOKEN) for text in texts], np.int32)

    added, removed = ids_of([with_space(text) for text in spelled]), ids_of([without_space(text) for text in spelled])
    return IdMap(ids=by_role(ids, pair), ids_space_added=by_role(added, pair), ids_space_removed=by_role(removed, pair))


def with_space(text: bytes | None) -> bytes | None:
    """What a token spells with a space put in front of it; None for one that spells no text."""
    return None if text is None else b" " + text


def without_space(text: bytes | None) -> bytes | None:
    """What a token spells with the space in front of it taken off; None where there is none, or nothing is left."""
    return text[1:] if text is not None and text.startswith(b" ") and len(text) > 1 else None
