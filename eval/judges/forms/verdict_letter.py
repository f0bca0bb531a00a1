"""The letter of the better of two answers: "[[A]]", "[[B]]", or "[[C]]" for a tie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from eval.exchange import Reply
from eval.judges.forms.form import Preference


class VerdictLetter(Preference):
    """A letter in double brackets."""

    held: ClassVar[str] = "verdicts on pairs"
    ask_as_json: ClassVar[str] = '"verdict" ("A", "B", or "C" for a tie)'

    def say(self, ratings: Sequence[int]) -> Reply:
        first, second = ratings
        return Reply(text="[[A]]" if first > second else "[[B]]" if second > first else "[[C]]")

    def from_json(self, value: Any, why: str) -> Reply:
        return Reply(text=f"{why}\n\n[[{value}]]".strip())
