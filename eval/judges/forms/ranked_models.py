"""A JSON ranking of both answers, "m" the first and "M" the second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from eval.errors import JudgeFailure
from eval.exchange import Reply
from eval.judges.forms.form import Preference


class RankedModels(Preference):
    """`{"ordered_models": [{"model": "m", "rank": 1}, ...]}`"""

    held: ClassVar[str] = "preferences"
    ask_as_json: ClassVar[str] = '"verdict" (the better model\'s name, "m" or "M")'

    def say(self, ratings: Sequence[int]) -> Reply:
        """Raises JudgeFailure: a ranking has no draw."""
        raise JudgeFailure(
            "the reference judge cannot say 'draw' in a ranking: set benchmark.<entry>.annotator to"
            " weighted_alpaca_eval_gpt4_turbo, or choose another judge"
        )

    def from_json(self, value: Any, why: str) -> Reply | None:
        order = sorted(("m", "M"), key=lambda name: name != value)
        ranking = [{"model": name, "rank": rank} for rank, name in enumerate(order, start=1)]
        return Reply(text=json.dumps({"ordered_models": ranking})) if value in order else None
