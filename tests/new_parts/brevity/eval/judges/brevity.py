"""A judge that likes few words: 10, less one for each word beyond those that are free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.exchange import JudgeRequest, Reply
from eval.judges.forms import FORMS
from eval.judges.protocol import Member


@dataclass(frozen=True, kw_only=True)
class Brevity(Member):
    """`free`: words that cost nothing."""

    free: int = 0

    @property
    def label(self) -> str:
        return f"brevity:{self.free}"

    def judge(self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None]) -> None:
        for request in requests:
            ratings = [max(1, 10 - max(0, len(said.split()) - self.free)) for said in request.answers]
            hand_over(request, FORMS[request.form].say(ratings))
