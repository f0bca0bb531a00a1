"""How a reply says its verdict.  To add a form: one file, one line here.

How the words are read is the benchmark's (`eval.benchmarks`): its published patterns and its package's parsers.
"""

from __future__ import annotations

from eval.judges.forms.form import ReplyForm
from eval.judges.forms.preference_token import PreferenceToken
from eval.judges.forms.ranked_models import RankedModels
from eval.judges.forms.rating import Rating
from eval.judges.forms.verdict_letter import VerdictLetter

FORMS: dict[str, ReplyForm] = {
    "rating": Rating(),
    "preference_token": PreferenceToken(),
    "ranked_models": RankedModels(),
    "verdict_letter": VerdictLetter(),
}

__all__ = ["FORMS", "ReplyForm"]
