"""The shortest answer of each question that has a few characters."""

from __future__ import annotations

from dataclasses import dataclass

from eval.ensembles.selection import Option, Options, Selects, best


@dataclass(frozen=True, kw_only=True)
class Shortest(Selects):
    """`at_least`: answers of fewer characters are passed over."""

    at_least: int = 1

    def choose(self, options: Options) -> dict[str, int]:
        return {question_id: best(offered, self._brevity) for question_id, offered in options.items()}

    def _brevity(self, option: Option) -> float | None:
        length = sum(map(len, option.answer.turns))
        return -float(length) if length >= self.at_least else None
