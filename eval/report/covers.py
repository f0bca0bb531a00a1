"""What the intervals and the tests of a table are over, in words that stand below it."""

from __future__ import annotations

from dataclasses import dataclass

from eval.scores.intervals import Bootstrap
from eval.scores.sign_flip import FLIPS


@dataclass(frozen=True, kw_only=True)
class Covers:
    """`intervals` goes on from "95% interval", `tests` names the test behind every p-value."""

    intervals: str
    tests: str


def over_questions(bootstrap: Bootstrap) -> Covers:
    """Of a single run, which says nothing of another one."""
    return Covers(
        intervals=f"by bootstrap over questions ({bootstrap.resamples} resamples, seed {bootstrap.seed})",
        tests=f"Sign-flip test by question, {FLIPS:,} flips, seed {bootstrap.seed}",
    )
