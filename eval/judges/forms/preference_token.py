"""The token "m" (the first answer) or "M" (the second), with its probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from eval.exchange import Reply
from eval.judges.forms.form import Preference


class PreferenceToken(Preference):
    """The first token's log-probabilities are the verdict; a JSON reply makes of them a plain choice."""

    held: ClassVar[str] = "preferences"
    ask_as_json: ClassVar[str] = '"verdict" ("m" or "M")'

    def say(self, ratings: Sequence[int]) -> Reply:
        first, second = ratings
        if first == second:
            return Reply(text="m", top_logprobs=(("m", math.log(0.5)), ("M", math.log(0.5))))
        return self.from_json("m" if first > second else "M", "")

    def from_json(self, value: Any, why: str) -> Reply:
        return Reply(text=str(value), top_logprobs=((str(value), 0.0),))
