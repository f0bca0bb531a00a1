"""A judge model behind any OpenAI-compatible endpoint, asked through the `openai` client.

Each reply is handed to the caller as soon as it is there, and only then does its place in the queue ask the next
question, so whatever was paid for is on disk.  Rate limits, server errors, timeouts, broken connections and unreadable
bodies are tried again, with the endpoint's own Retry-After where it gives one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.errors import JudgeFailure
from eval.judges.exchange import JudgeRequest, Reply
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
class OpenAI:
    """Settings of an endpoint and of how patiently it is asked.

    `base_url` None: OpenAI's own.  `key_variable`: the environment variable that holds the key; None for an endpoint
    that wants no key.  The key itself is never part of a config.  `extra`: further fields of the request's body.
    """

    model: str
    base_url: str | None = None
    key_variable: str | None = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 6
    longest_wait_seconds: float = 60.0
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError(f"concurrency {self.concurrency}, attempts {self.attempts}: expected at least 1 of each")
        if self.timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}: expected more than 0")

    @property
    def label(self) -> str:
        return self.model

    def judge(self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None]) -> None:
        """Hand over one reply per request, in the order of completion.

        Raises JudgeFailure when there is no key, no prompt, or nobody who answers; a single question that stays
        unanswered is a Reply with a `failure`.
        """
        if not requests:
            return
        if not all(request.messages for request in requests):
            raise JudgeFailure(
                f"a judge model needs {requests[0].benchmark}'s published prompts: set"
                " benchmark.<entry>.judge_prompts and fetch the benchmark data, or use judge=reference"
            )
        asyncio.run(self._ask_all(requests, hand_over, key=self._key()))

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

    async def _ask_all(
        self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None], *, key: str
    ) -> None:
        from openai import AsyncOpenAI

        nobody = 0  # questions in a row that nobody took

        async def take(request: JudgeRequest) -> None:
            nonlocal nobody
            reply, reached = await self._ask(client, request)
            hand_over(request, reply)
            nobody = 0 if reached else nobody + 1
            if nobody >= min(_GIVE_UP_AFTER, len(requests)):
                raise JudgeFailure(
                    f"judge {self.model} at {client.base_url} does not answer ({reply.failure}): what it said"
                    " so far is kept; start it again and repeat the command"
                )

        async with AsyncOpenAI(
            api_key=key, base_url=self.base_url, timeout=self.timeout_seconds, max_retries=0
        ) as client:
            await work_through(requests, take, workers=min(self.concurrency, len(requests)))

    async def _ask(self, client: AsyncOpenAI, request: JudgeRequest) -> tuple[Reply, bool]:
        """The reply, and whether anybody was there to give one."""
        import openai
        import tenacity

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=self._wait,
            stop=tenacity.stop_after_attempt(self.attempts),
            reraise=True,
        )
        try:
            return await retrying(self._ask_once, client, request), True
        except openai.APIStatusError as error:
            said = error.message.replace(client.api_key, "***")  # some endpoints quote the key they refuse
            if error.status_code in _REFUSED or error.code == _NO_MONEY:
                raise JudgeFailure(
                    f"judge {self.model} at {client.base_url} refuses ({said}): check judge.model,"
                    f" judge.base_url and the key in {self.key_variable}; what it said so far is kept"
                ) from error
            rejected = error.status_code < 500 and not _may_pass(error)
            return Reply(failure=f"no reply from the judge ({said})", rejected=rejected), True
        except (openai.APIError, ValueError) as error:
            timed_out = isinstance(error, openai.APITimeoutError)
            reached = timed_out or not isinstance(error, openai.APIConnectionError)
            return Reply(failure=f"no reply from the judge ({type(error).__name__}: {error})"), reached

    async def _ask_once(self, client: AsyncOpenAI, request: JudgeRequest) -> Reply:
        settings: dict[str, Any] = {}
        if request.top_logprobs is not None:
            settings = {"logprobs": True, "top_logprobs": request.top_logprobs}
        completion = await client.chat.completions.create(
            model=self.model,
            messages=[dict(message) for message in request.messages],  # type: ignore[misc]
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            extra_body={**(request.extra or {}), **(self.extra or {})},
            **settings,
        )
        return _reply(completion)

    def _wait(self, state: RetryCallState) -> float:
        """What the endpoint asks for in Retry-After, else 1, 2, 4, ... seconds; at most `longest_wait_seconds`."""
        error = state.outcome.exception() if state.outcome is not None else None
        asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
        seconds = float(asked) if asked.replace(".", "", 1).isdigit() else 2.0 ** (state.attempt_number - 1)
        return min(seconds, self.longest_wait_seconds)


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return (error.status_code in (408, 409, 429) and error.code != _NO_MONEY) or error.status_code >= 500
    # A broken connection, a timeout, a body that is no completion.
    return isinstance(error, (openai.APIError, ValueError))


def _reply(completion: Any) -> Reply:
    """Text (or the arguments of a forced function call) and first-token probabilities.

    Raises ValueError when the body is not a completion.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content or ""
        if choice.message.tool_calls:
            text = choice.message.tool_calls[0].function.arguments
        first = choice.logprobs.content[:1] if choice.logprobs and choice.logprobs.content else []
        top = tuple((entry.token, entry.logprob) for token in first for entry in token.top_logprobs)
        usage = completion.usage
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"the body is not a chat completion ({error})") from error
    return Reply(
        text=text,
        top_logprobs=top,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
    )
