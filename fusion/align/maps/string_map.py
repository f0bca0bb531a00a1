"""The vocabulary map that is exact: a source token becomes the pivot token that stands for the same bytes, or none.

Nothing is guessed, so probability mass is only ever moved between tokens that mean the same text; the rest of it stays
in the tail.  Special tokens go by their role, those without one by their name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
    first: dict[bytes, int] = {}
    for token_id, spelled in enumerate(pair.pivot.spelled):
        if spelled is not None:
            first.setdefault(spelled, token_id)
    added, removed = np.full_like(ids, NO_TOKEN), np.full_like(ids, NO_TOKEN)
    for token_id, spelled in enumerate(pair.source.spelled):
        if spelled is not None:
            added[token_id] = first.get(b" " + spelled, NO_TOKEN)
            if spelled.startswith(b" ") and len(spelled) > 1:
                removed[token_id] = first.get(spelled[1:], NO_TOKEN)
    return IdMap(ids=by_role(ids, pair), ids_space_added=by_role(added, pair), ids_space_removed=by_role(removed, pair))
