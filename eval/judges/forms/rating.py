"""One answer's rating: "Rating: [[7]]"."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, ClassVar

from eval.exchange import Reply


class Rating:
    """A number from 1 to 10 in double brackets."""

    held: ClassVar[str] = "ratings"
    field: ClassVar[str] = "rating"
    ask_as_json: ClassVar[str] = '"rating" (a number from 1 to 10)'

    def say(self, ratings: Sequence[int]) -> Reply:
        return Reply(text=f"Rating: [[{ratings[0]}]]")

    def from_json(self, value: Any, why: str) -> Reply:
        return Reply(text=f"{why}\n\nRating: [[{value}]]".strip())

    def majority(self, values: Sequence[float]) -> float:
        return statistics.median(values)
