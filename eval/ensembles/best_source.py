"""The one source that scores best on this benchmark: what selecting by question must beat to be worth its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eval.ensembles.selection import Options, Selects


@dataclass(frozen=True, kw_only=True)
class BestSource(Selects):
    """The source with the highest mean of the benchmark's main score over the questions it was scored on; of equal
    means the first.
    """

    oracle: ClassVar[str] = "it is the source that these very questions' verdicts favour"

    def choose(self, options: Options) -> dict[str, int]:
        means: list[float] = []
        for place in range(max(map(len, options.values()), default=0)):
            scores = [offered[place].score for offered in options.values()]
            scored = [score for score in scores if score is not None]
            means.append(float(np.mean(scored)) if scored else float("-inf"))
        chosen = int(np.argmax(means)) if means else 0
        return dict.fromkeys(options, chosen)
