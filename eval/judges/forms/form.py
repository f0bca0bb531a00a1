"""What a reply form is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from eval.exchange import Reply

TIE = 1.5


class ReplyForm(Protocol):
    """One way to say a verdict."""

    # What a file of published verdicts in this form holds.
    held: ClassVar[str]
    # The field of a JSON reply that is the verdict, and the wish for it.
    field: ClassVar[str]
    ask_as_json: ClassVar[str]

    def say(self, ratings: Sequence[int]) -> Reply:
        """What a judge says who rates the answers so, in the order in which they are shown."""

    def from_json(self, value: Any, why: str) -> Reply | None:
        """The verdict of a JSON reply, and its reasons, as words in this form; None where it has no such value."""

    def majority(self, values: Sequence[float]) -> float:
        """What most of several verdicts say."""


class Preference:
    """What forms that say which of two answers is better have in common."""

    field: ClassVar[str] = "verdict"

    def majority(self, values: Sequence[float]) -> float:
        """The side with more votes, a tie (1.5) where votes are equal."""
        lead = sum((value > TIE) - (value < TIE) for value in values)
        return 2.0 if lead > 0 else 1.0 if lead < 0 else TIE
