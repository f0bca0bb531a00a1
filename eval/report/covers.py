"""What the intervals and the tests of a table are over, in words that stand below it."""

from __future__ import annotations

from dataclasses import dataclass

from eval.scores.intervals import Uncertainty
from eval.scores.sign_flip import FLIPS

# How intervals over questions are computed; `docs/coverage.md` has how often each holds the truth.
FORMULAS = (
    "score intervals within their scale for ratings and rates, Student's t for differences and lengths, and on the log"
    " odds for length-controlled rates; none for one question, nor where differences or lengths are all alike"
)


@dataclass(frozen=True, kw_only=True)
class Covers:
    """`intervals` goes on from "95% interval", `tests` names the test behind every p-value."""

    intervals: str
    tests: str


def over_questions(uncertainty: Uncertainty) -> Covers:
    """Of a single run, which says nothing of another one."""
    return Covers(
        intervals=f"over questions, both turns of one together: {FORMULAS}",
        tests=f"Sign-flip test by question, {FLIPS:,} flips, seed {uncertainty.seed}",
    )
