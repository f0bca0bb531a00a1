"""Of each question the answer that the judge scored best: Top1-GPT4 of FuseChat's Table 1 (2408.07990)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eval.ensembles.selection import Options, Selects, best


@dataclass(frozen=True, kw_only=True)
class Top1Judge(Selects):
    """The highest mean score over the question's turns; of equal scores the first source's.

    The maximum of noisy verdicts also keeps the judge's luckiest errors, so the value is too high even as a bound.
    """

    oracle: ClassVar[str] = "its answers are chosen by the very verdicts that then score them"

    def choose(self, options: Options) -> dict[str, int]:
        return {question_id: best(offered, lambda option: option.score) for question_id, offered in options.items()}
