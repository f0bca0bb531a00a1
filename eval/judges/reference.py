"""A judge that needs no model: it compares the answer with the known answer and says so in the benchmark's own form.

Its reply goes through the same parsing and records as any judge's.  Rating: 10 when the answer equals the reference
(spaces aside), 1 when it is blank, else 1 + floor(8 * similarity), so 1 to 9, with similarity = 1 - edit distance /
length of the longer text.  Preference: the answer with the higher rating; equal ratings are a draw.

How much credit an answer gets that is not the known one, `credit` says:

    edit       as above
    exact      none: 10 or 1
    contains   full credit where the known answer stands anywhere in it, else as above; long answers gain by that
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.exchange import HandOver, JudgeRequest, Reply
from eval.judges.forms import FORMS
from eval.judges.protocol import Member

Credit = Literal["edit", "exact", "contains"]


@dataclass(frozen=True, kw_only=True)
class Reference(Member):
    """`credit`: how strict it is, as the module's first lines say."""

    credit: Credit = "edit"

    @property
    def label(self) -> str:
        return "reference" if self.credit == "edit" else f"reference ({self.credit})"

    def judge(self, requests: Sequence[JudgeRequest], hand_over: HandOver) -> None:
        """Hand over one reply per request, in order.

        A question without a known answer has no reply, with that reason.  Raises JudgeFailure when the benchmark wants
        a form that cannot say "draw".
        """
        for request in requests:
            hand_over(request, reply_by_reference(request, self.credit))


def reply_by_reference(request: JudgeRequest, credit: Credit = "edit") -> Reply:
    """The reply to one request."""
    if request.reference is None:
        return Reply(failure="the question has no known answer for the reference judge", missing=True)
    return FORMS[request.form].say([rating(answer, request.reference, credit) for answer in request.answers])


def rating(answer: str, reference: str, credit: Credit = "edit") -> int:
    """1 to 10, as the module's first lines define it."""
    answer, reference = " ".join(answer.split()), " ".join(reference.split())
    if answer == reference:
        return 10
    if not answer or credit == "exact":
        return 1
    if credit == "contains" and reference in answer:
        return 10
    from fusion.runtime.edit_distance import (
        edit_distance,  # loads numba, half a second that --help and other judges save
    )

    longer = max(len(answer), len(reference))
    # Whole numbers, so that the floor does not depend on rounding.
    return 1 + 8 * (longer - edit_distance(answer, reference)) // longer
