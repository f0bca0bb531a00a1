"""A judge model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import JudgeFailure
from eval.exchange import HandOver, JudgeRequest
from eval.judges.asking import Address, ask_judge, refused_at
from eval.judges.model_judge import ModelJudge
from eval.judges.protocol import Identity
from eval.serve import Serve
from fusion.runtime.configure import plain


@dataclass(frozen=True, kw_only=True)
class OpenAI(ModelJudge):
    """Settings of an endpoint and of how patiently it is asked.

    `base_url` None: OpenAI's own.  `key_variable`: the environment variable that holds the key; None for an endpoint
    that wants no key.  The key itself is never part of a config.
    """

    model: str
    base_url: str | None = None
    key_variable: str | None = "OPENAI_API_KEY"

    @property
    def label(self) -> str:
        return self.labelled(self.model)

    def identity(self, weights_of: Callable[[Path], str], served_as: Serve) -> Identity:
        names = ("model", "base_url", "reply", "extra", "readings")
        return {"type": "OpenAI", **{name: plain(getattr(self, name)) for name in names}}, {}

    def obstacles(self, served_as: Serve) -> list[str]:
        try:
            self._key()
        except JudgeFailure as failure:
            return [str(failure)]
        return []

    def asked_once(self) -> str | None:
        """Asked where it wants a key or has a price.  What passes, and what is about the question, is no refusal."""
        if self.key_variable is None and self.price is None:
            return None
        return refused_at(self._address(), self.patience)

    def judge(self, requests: Sequence[JudgeRequest], hand_over: HandOver) -> None:
        """Hand over one reply per request, in the order of completion.

        Raises JudgeFailure when there is no key, no prompt, or no answer at all; a single question that stays
        unanswered is a Reply with a `failure`.
        """
        if not requests:
            return
        ask_judge(self._address(), requests, hand_over, self)

    def _address(self) -> Address:
        """Raises JudgeFailure without a key."""
        return Address(
            base_url=self.base_url,
            model=self.model,
            key=self._key(),
            remedy=f"judge.model, judge.base_url and the key in {self.key_variable}",
        )

    def _key(self) -> str:
        if self.key_variable is None:
            return "none"
        key = os.environ.get(self.key_variable, "")
        if not key:
            raise JudgeFailure(
                f"no API key for judge {self.model}: set the environment variable {self.key_variable}, name another in"
                " judge.key_variable, or set judge.key_variable=null for an endpoint that wants none"
            )
        return key
