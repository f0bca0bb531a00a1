"""What judging costs: an estimate before, what the endpoint counted after.

Before anything was judged the estimate takes 4 characters for a token of prompt and 200 tokens for a reply in words
(1,610 published GPT-4 judgments of MT-Bench have 796 characters on average).  As soon as a judge's replies to the same
benchmark say how many tokens they took, these rates are used instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from eval.exchange import JudgeRequest
from eval.judges.protocol import Member
from eval.records import Unscored, Verdict
from eval.scored import JudgeCost
from fusion.runtime.work import CHARACTERS_PER_TOKEN

_REPLY_TOKENS = 200


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Tokens of replies not asked for yet; `measured` counts the earlier replies that the rates come from."""

    replies: int
    prompt_tokens: float
    completion_tokens: float
    measured: int

    def __str__(self) -> str:
        source = f"by the usage of {self.measured} earlier replies" if self.measured else "4 characters a token"
        return (
            f"{self.replies} replies, about {self.prompt_tokens:,.0f} prompt and {self.completion_tokens:,.0f}"
            f" completion tokens ({source})"
        )


def cost(
    judge: Member, records: Iterable[Verdict | Unscored], *, model: str, benchmark: str, layer: int, asked: int
) -> JudgeCost:
    """The sum over what a judge said."""
    replies = [*records]
    prompt = sum(record.prompt_tokens for record in replies)
    completion = sum(record.completion_tokens for record in replies)
    return JudgeCost(
        model=model,
        benchmark=benchmark,
        judge=judge.label,
        layer=layer,
        replies=len(replies),
        asked=asked,
        prompt_tokens=prompt,
        completion_tokens=completion,
        money=None if judge.price is None else judge.price.of(prompt, completion),
    )


def estimate(
    requests: Iterable[JudgeRequest], earlier: Iterable[tuple[JudgeRequest, Verdict | Unscored]], *, reviews: int = 0
) -> Estimate:
    """The tokens that `requests` will take, at the rates of `earlier` replies where there are any.

    `reviews`: how many reviews of the usual length each prompt will show besides (a panel's second layer).
    """
    counted = [(request, record) for request, record in earlier if record.prompt_tokens]
    per_character, per_reply = 1 / CHARACTERS_PER_TOKEN, None
    if counted:
        tokens = sum(record.prompt_tokens for _, record in counted)
        per_character = tokens / sum(prompt_characters(request) for request, _ in counted)
        per_reply = sum(record.completion_tokens for _, record in counted) / len(counted)
    replies, prompt, completion = 0, 0.0, 0.0
    for request in requests:
        said = per_reply if per_reply is not None else min(request.max_tokens, _REPLY_TOKENS)
        replies += 1
        prompt += per_character * prompt_characters(request) + reviews * said
        completion += said
    return Estimate(replies=replies, prompt_tokens=prompt, completion_tokens=completion, measured=len(counted))


def prompt_characters(request: JudgeRequest) -> int:
    """Characters of the messages, and of the tools where the request has any."""
    text = sum(len(message["content"]) for message in request.messages)
    return text + (len(json.dumps(request.extra)) if request.extra else 0)
