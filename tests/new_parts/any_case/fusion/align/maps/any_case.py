"""A source token becomes the pivot's small letters of the same text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fusion.align.pair import VocabularyPair
from fusion.align.project import IdMap
from fusion.align.statistics import CoOccurrence
from fusion.distribution import NO_TOKEN


def any_case_map(pair: VocabularyPair, statistics: Callable[[], CoOccurrence]) -> IdMap:
    """Equal when both are written small.  The statistics are not used."""
    small = {text: token_id for token_id, text in enumerate(pair.pivot_strings)}
    return IdMap(ids=np.array([small.get(text.lower(), NO_TOKEN) for text in pair.source_strings], np.int32))
