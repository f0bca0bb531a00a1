"""Position by position, as if both tokenizers cut the text alike."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fusion.align.matches import Labelled, Matches
from fusion.align.pair import VocabularyPair


class ByCount:
    """Matches the n-th position with the n-th, as far as both reach."""

    knows_the_text: ClassVar[bool] = False

    def __init__(self, pair: VocabularyPair) -> None:
        """The strings of the tokens are not needed."""

    def __call__(self, pivot: Labelled, source: Labelled) -> Matches:
        both = min(len(pivot.label_ids), len(source.label_ids))
        offset = np.minimum(np.arange(len(pivot.label_ids) + 1), both)
        return Matches(offset=offset, positions=np.arange(both, dtype=np.int32))
