"""The longest answer of each question: shows how far a judge's taste for length alone would carry."""

from __future__ import annotations

from dataclasses import dataclass

from eval.ensembles.selection import Options, Selects, best


@dataclass(frozen=True, kw_only=True)
class Longest(Selects):
    """Most characters over all turns; of equally long answers the first source's."""

    def choose(self, options: Options) -> dict[str, int]:
        return {
            question_id: best(offered, lambda option: float(sum(map(len, option.answer.turns))))
            for question_id, offered in options.items()
        }
