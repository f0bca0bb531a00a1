"""What a judge is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from eval.judges.exchange import JudgeRequest, Reply


class Judge(Protocol):
    """Somebody who replies to requests; what the replies mean is the benchmark's to say."""

    @property
    def label(self) -> str:
        """The name under which its verdicts are recorded."""

    def judge(self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None]) -> None:
        """Hand over one reply per request, each as soon as it is there."""
