"""Requests to a judge model behind an OpenAI-compatible address, many at a time, through the `openai` client.

Each reply is handed to the caller as soon as it is there, and only then does its place in the queue ask the next
question, so whatever was paid for is on disk.  Rate limits, server errors, timeouts, broken connections and unreadable
bodies are tried again, with the endpoint's own Retry-After where it gives one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eval.errors import JudgeFailure
from eval.judges.completions import ReplyKind, body, read_completion, usage
from eval.judges.exchange import JudgeRequest, Reply
from eval.serve.chat_client import Patience
from eval.worker_pool import work_through

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from tenacity import RetryCallState

# After so many questions in a row that could not even be delivered, nobody is there.
_GIVE_UP_AFTER = 20
# Wrong key, no permission, no such model: the same for every question.
_REFUSED = (401, 403, 404)
_NO_MONEY = "insufficient_quota"  # a rate limit by its status, but no waiting helps


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a judge model is asked; `base_url` None: OpenAI's own.  `remedy` is what to check when it refuses.

    `longest`: the most tokens a reply may be asked to have there, None for no limit of the server's.
    """

    base_url: str | None
    model: str
    key: str = field(repr=False)
    remedy: str
    longest: int | None = None
    seeded: bool = False


def ask_judge(
    address: Address,
    requests: Sequence[JudgeRequest],
    hand_over: Callable[[JudgeRequest, Reply], None],
    *,
    patience: Patience,
    reply: ReplyKind,
    extra: Mapping[str, Any],
) -> None:
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
    asyncio.run(_Asking(address, patience, reply, extra).everything(requests, hand_over))


class _Asking:
    def __init__(self, address: Address, patience: Patience, reply: ReplyKind, extra: Mapping[str, Any]) -> None:
        self._address = address
        self._patience = patience
        self._reply: ReplyKind = reply
        self._extra = extra

    async def everything(
        self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None]
    ) -> None:
        from openai import DEFAULT_CONNECTION_LIMITS, AsyncOpenAI, DefaultAsyncHttpxClient

        limits = type(DEFAULT_CONNECTION_LIMITS)  # of whichever HTTP library this openai is built on
        nobody = 0  # questions in a row that nobody took

        async def take(request: JudgeRequest) -> None:
            nonlocal nobody
            reply, reached = await self._ask(client, request)
            hand_over(request, reply)
            nobody = 0 if reached else nobody + 1
            if nobody >= min(_GIVE_UP_AFTER, len(requests)):
                raise JudgeFailure(
                    f"judge {self._address.model} at {client.base_url} does not answer ({reply.failure}): what it said"
                    " so far is kept; start it again and repeat the command"
                )

        async with AsyncOpenAI(
            api_key=self._address.key,
            base_url=self._address.base_url,
            timeout=self._patience.timeout_seconds,
            max_retries=0,
            # No connection is used twice: on a kept one, a reply that a gateway sends twice answers the next question.
            http_client=DefaultAsyncHttpxClient(limits=limits(max_connections=None, max_keepalive_connections=0)),
        ) as client:
            await work_through(requests, take, workers=min(self._patience.concurrency, len(requests)))

    async def _ask(self, client: AsyncOpenAI, request: JudgeRequest) -> tuple[Reply, bool]:
        """The reply, and whether anybody was there to give one."""
        import openai
        import tenacity

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=self._wait,
            stop=tenacity.stop_after_attempt(self._patience.attempts),
            reraise=True,
        )
        spent: list[tuple[int, int]] = []  # (prompt, completion) tokens of every attempt that told them

        def with_tokens(reply: Reply) -> Reply:
            prompt, completion = (sum(counts) for counts in zip((0, 0), *spent, strict=True))
            return replace(reply, prompt_tokens=prompt, completion_tokens=completion)

        try:
            return with_tokens(await retrying(self._ask_once, client, request, spent)), True
        except openai.APIStatusError as error:
            said = error.message.replace(client.api_key, "***")  # some endpoints quote the key they refuse
            if error.status_code in _REFUSED or error.code == _NO_MONEY:
                raise JudgeFailure(
                    f"judge {self._address.model} at {client.base_url} refuses ({said}): check {self._address.remedy};"
                    " what it said so far is kept"
                ) from error
            rejected = error.status_code < 500 and not _may_pass(error)
            return with_tokens(Reply(failure=f"no reply from the judge ({said})", rejected=rejected)), True
        except (openai.APIError, ValueError) as error:
            timed_out = isinstance(error, openai.APITimeoutError)
            reached = timed_out or not isinstance(error, openai.APIConnectionError)
            return with_tokens(Reply(failure=f"no reply from the judge ({type(error).__name__}: {error})")), reached

    async def _ask_once(self, client: AsyncOpenAI, request: JudgeRequest, spent: list[tuple[int, int]]) -> Reply:
        address = self._address
        fields = body(request, reply=self._reply, extra=self._extra, seeded=address.seeded)
        if address.longest is not None:
            fields["max_tokens"] = min(fields["max_tokens"], address.longest)
        completion = await client.chat.completions.create(
            model=address.model, messages=fields.pop("messages"), extra_body=fields
        )
        spent.append(usage(completion))
        return read_completion(completion, request, reply=self._reply)

    def _wait(self, state: RetryCallState) -> float:
        """What the endpoint asks for in Retry-After, else 1, 2, 4, ... seconds; at most `longest_wait_seconds`."""
        error = state.outcome.exception() if state.outcome is not None else None
        asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
        seconds = float(asked) if asked.replace(".", "", 1).isdigit() else 2.0 ** (state.attempt_number - 1)
        return min(seconds, self._patience.longest_wait_seconds)


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return (error.status_code in (408, 409, 429) and error.code != _NO_MONEY) or error.status_code >= 500
    # A broken connection, a timeout, a body that is no completion.
    return isinstance(error, (openai.APIError, ValueError))
