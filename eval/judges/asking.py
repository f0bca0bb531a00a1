"""Requests to a judge model behind an OpenAI-compatible address, many at a time.

Each reply is handed to the caller as soon as it is there, and only then does its place in the queue ask the next
question, so whatever was paid for is on disk.  `eval.serve.endpoint_client` says what is tried again.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eval.errors import JudgeFailure
from eval.exchange import HandOver, JudgeRequest, Reply
from eval.judges.completions import body, read_completion
from eval.judges.model_judge import ModelJudge
from eval.serve.chat_template import ChatTemplate
from eval.serve.endpoint_client import EndpointClient, NoReply, Patience, Silence, tokens_of
from eval.serve.worker_pool import work_through

# Wrong key, no permission, no such model, no money left: the same for every question.
_REFUSES_ALL = (401, 402, 403, 404, 429)
_ALL_ALIKE = 5  # refusals in the same words, and no answer: every other question would be refused too
_NUMBERS = re.compile(r"\b(?=\w*\d)(?=\w*[a-z])[\w-]{8,}", re.IGNORECASE)  # of requests: each refusal has its own
_SOON = 30.0  # seconds for one short request before a run


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a judge model is asked; `base_url` None: OpenAI's own.  `remedy` is what to check when it refuses.

    `longest`: the most tokens a reply may be asked to have there, None for no limit of the server's.  `template`: what
    conversations are rendered by before they are sent, None where the server does it.
    """

    base_url: str | None
    model: str
    key: str = field(repr=False)
    remedy: str
    longest: int | None = None
    seeded: bool = False
    template: ChatTemplate | None = None


def ask_judge(address: Address, requests: Sequence[JudgeRequest], hand_over: HandOver, settings: ModelJudge) -> None:
    """Hand over one reply per request, in the order of completion.

    Raises JudgeFailure when there is no prompt, when the endpoint refuses every question alike, or when nobody answers;
    a single question that stays unanswered is a Reply with a `failure`.  A reply's tokens are those of all attempts.
    """
    if not requests:
        return
    if not all(request.messages for request in requests):
        raise JudgeFailure(
            f"a judge model needs {requests[0].benchmark}'s published prompts: set benchmark.<entry>.judge_prompts and"
            " fetch the benchmark data, or use judge=reference"
        )
    asyncio.run(_ask_all(address, requests, hand_over, settings))


def refused_at(address: Address, patience: Patience) -> str | None:
    """Why the address would refuse every question, by one short request; None where it answers, or may another time."""
    return asyncio.run(_refused_at(address, patience))


async def _refused_at(address: Address, patience: Patience) -> str | None:
    soon = replace(patience, attempts=1, timeout_seconds=min(patience.timeout_seconds, _SOON))
    client = EndpointClient(base_url=address.base_url, model=address.model, key=address.key, patience=soon)
    async with client:
        try:
            await client.complete(
                {"messages": [{"role": "user", "content": "Reply with: yes"}], "max_tokens": 16}, bool
            )
        except NoReply as error:
            if error.kind == "unreachable":
                return f"judge {address.model} at {client.address} does not answer ({error}): check {address.remedy}"
            if error.kind == "refused" and error.status in _REFUSES_ALL:
                return f"judge {address.model} at {client.address} refuses ({error.said}): check {address.remedy}"
    return None


async def _ask_all(
    address: Address, requests: Sequence[JudgeRequest], hand_over: HandOver, settings: ModelJudge
) -> None:
    silence = Silence(len(requests))
    refusals: Counter[str] = Counter()  # in the endpoint's words, while it has answered nothing
    answered = False

    async def take(request: JudgeRequest) -> None:
        nonlocal answered
        spent: list[tuple[int, int]] = []  # (prompt, completion) tokens of every attempt that reported them
        failure = None

        def read(completion: Any) -> Reply:
            spent.append(tokens_of(completion))
            return read_completion(completion, request, reply=settings.reply)

        fields = body(request, reply=settings.reply, extra=settings.extra or {}, seeded=address.seeded)
        if address.longest is not None:
            fields["max_tokens"] = min(fields["max_tokens"], address.longest)
        try:
            reply = await client.complete(fields, read)
            answered = True
        except NoReply as error:
            failure = error.kind
            if failure == "refused" and error.status in _REFUSES_ALL:
                raise JudgeFailure(
                    f"judge {address.model} at {client.address} refuses ({error.said}): check {address.remedy};"
                    " its replies so far are kept"
                ) from error
            reply = Reply(failure=f"no reply from the judge ({error})", rejected=failure == "refused")
            words = _NUMBERS.sub("", error.said)
            refusals[words] += failure == "refused"
            if not answered and refusals[words] >= _ALL_ALIKE:
                raise JudgeFailure(
                    f"judge {address.model} at {client.address} has refused {_ALL_ALIKE} questions alike and answered"
                    f" none ({error.said}): judge.extra sets fields of the request, and those it sets to null are left"
                    " out"
                ) from error
        prompt, completion = (sum(counts) for counts in zip((0, 0), *spent, strict=True))
        hand_over(request, replace(reply, prompt_tokens=prompt, completion_tokens=completion))
        if silence.lasts(failure):
            raise JudgeFailure(
                f"judge {address.model} at {client.address} does not answer ({reply.failure}): its replies so far are"
                " kept; start it again and repeat the command"
            )

    async with EndpointClient(
        base_url=address.base_url,
        model=address.model,
        key=address.key,
        patience=settings.patience,
        template=address.template,
    ) as client:
        await work_through(requests, take, workers=min(settings.concurrency, len(requests)))
