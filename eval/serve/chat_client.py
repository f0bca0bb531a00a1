"""Questions to an OpenAI-compatible server, many at a time, each reply handed out the moment it is complete.

    ask(endpoint, requests, on_reply)                  # from ordinary code
    async with ChatClient(endpoint) as client:         # or inside an event loop
        await answer_all(client, requests, on_reply)

Messages go to /v1/chat/completions only, so the chat template is the checkpoint's own.  What may pass (429, 5xx,
timeouts, broken connections, torn bodies) is tried again, after the server's Retry-After where it gives one; what does
not becomes a reply with a `failure`, and its neighbours go on.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from eval.errors import ServerFailure
from eval.serve.server import Endpoint
from eval.worker_pool import work_through

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from tenacity import RetryCallState

# After so many requests in a row that nobody answered, the server is gone.
_GIVE_UP_AFTER = 20


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One conversation to hold: the user's `turns`, each asked after the model's own reply to the one before it.

    `top_logprobs`: how many alternatives of each turn's first token to return.
    """

    id: str
    turns: tuple[str, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    system: str | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError(f"request {self.id} has no turn")
        if self.max_tokens < 1:
            raise ValueError(f"request {self.id}: max_tokens is {self.max_tokens}, expected 1 or more")


FailureKind = Literal["unreachable", "timeout", "failing", "refused", "unreadable"]
_NO_ANSWER = ("unreachable", "timeout", "failing")


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """What came back: the model's turns in order, fewer than asked when `failure` says why the next one is missing
    and `kind` what sort of failure it was.

    `finish_reasons` is per turn ("stop", "length"); tokens are summed over turns; `first_token` holds, per turn, pairs
    of token text and log-probability in nats where the request asked for them.
    """

    id: str
    turns: tuple[str, ...]
    finish_reasons: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token: tuple[tuple[tuple[str, float], ...], ...] = ()
    failure: str | None = None
    kind: FailureKind | None = None


class Answering(Protocol):
    """Whoever answers a request: ChatClient, or ScriptedClient in tests and dry runs."""

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Never raises for one request's failure: that is a reply with `failure`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How many requests are under way at once, and how long each is given."""

    concurrency: int = 128
    attempts: int = 6
    timeout_seconds: float = 600.0
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError(f"concurrency {self.concurrency}, attempts {self.attempts}: expected 1 or more of each")
        if self.timeout_seconds <= 0 or self.longest_wait_seconds < 0:
            raise ValueError(
                f"timeout_seconds {self.timeout_seconds}, longest_wait_seconds {self.longest_wait_seconds}: expected"
                " seconds above 0"
            )


async def answer_all(
    client: Answering,
    requests: Sequence[ChatRequest],
    on_reply: Callable[[ChatRequest, ChatReply], None],
    *,
    concurrency: int = 128,
) -> None:
    """Ask every request, `concurrency` at a time, and hand each reply out at once, in the order of completion.

    Raises ServerFailure when nobody answered 20 requests in a row, or when nobody could be reached for all of fewer;
    replies handed out before are the caller's to keep.  What `on_reply` raises stops everything.
    """
    unanswered = 0

    async def take(request: ChatRequest) -> None:
        nonlocal unanswered
        reply = await client.reply(request)
        on_reply(request, reply)
        unanswered = unanswered + 1 if reply.kind in _NO_ANSWER else 0
        nobody_at_all = unanswered >= len(requests) and reply.kind == "unreachable"
        if unanswered >= _GIVE_UP_AFTER or nobody_at_all:
            raise ServerFailure(
                f"the server does not answer any more ({reply.failure}): replies so far are kept, repeat the"
                " command to ask the rest"
            )

    await work_through(requests, take, workers=min(concurrency, len(requests)))


def ask(
    endpoint: Endpoint,
    requests: Sequence[ChatRequest],
    on_reply: Callable[[ChatRequest, ChatReply], None],
    *,
    patience: Patience | None = None,
) -> None:
    """`answer_all` with a ChatClient, from code that runs no event loop."""
    patience = patience or Patience()

    async def run() -> None:
        async with ChatClient(endpoint, patience) as client:
            await answer_all(client, requests, on_reply, concurrency=patience.concurrency)

    asyncio.run(run())


class ChatClient:
    """The `openai` client towards one endpoint; an async context manager that keeps its connections open."""

    def __init__(self, endpoint: Endpoint, patience: Patience | None = None) -> None:
        import openai

        self._patience = patience or Patience()
        self._endpoint = endpoint
        # Reading the certificate store takes most of a second, and a plain http address has no use for it.
        encrypted = endpoint.base_url.startswith("https:")
        # Only a server on this machine may keep a connection: a reply that some gateway sends twice would, on a kept
        # one, answer the next question.
        kept = 1_000 if endpoint.base_url.startswith("http://127.0.0.1:") else 0
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)  # of whichever HTTP library this openai is built on
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key,
            timeout=self._patience.timeout_seconds,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                verify=encrypted, limits=limits(max_connections=None, max_keepalive_connections=kept)
            ),
        )

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Hold the whole conversation; a turn that finally fails ends it with a `failure`, earlier turns are kept."""
        import openai

        messages = [{"role": "system", "content": request.system}] if request.system is not None else []
        said: list[_ReplyTurn] = []
        failure: str | None = None
        kind: FailureKind | None = None
        for turn in request.turns:
            messages.append({"role": "user", "content": turn})
            try:
                said.append(await self._turn(request, messages))
            except (openai.APIError, ValueError) as error:
                kind, failure = _reason(error)
                break
            messages.append({"role": "assistant", "content": said[-1].text})
        return ChatReply(
            id=request.id,
            turns=tuple(turn.text for turn in said),
            finish_reasons=tuple(turn.finish_reason for turn in said),
            prompt_tokens=sum(turn.prompt_tokens for turn in said),
            completion_tokens=sum(turn.completion_tokens for turn in said),
            first_token=tuple(turn.first_token for turn in said) if request.top_logprobs is not None else (),
            failure=failure,
            kind=kind,
        )

    async def _turn(self, request: ChatRequest, messages: Sequence[dict[str, str]]) -> _ReplyTurn:
        import openai
        import tenacity

        passing = (
            openai.APIConnectionError,  # its subclass: APITimeoutError
            openai.RateLimitError,
            openai.InternalServerError,
            openai.APIResponseValidationError,
            ValueError,  # a body that is no completion, or torn JSON
        )
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(passing),
            wait=self._wait,
            stop=tenacity.stop_after_attempt(self._patience.attempts),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._once(request, messages)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, request: ChatRequest, messages: Sequence[dict[str, str]]) -> _ReplyTurn:
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": list(messages),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        # Not chat.completions.create: building and checking its typed objects doubles the client's time per request.
        return _read(await self._client.post("/chat/completions", body=body, cast_to=object))

    def _wait(self, state: RetryCallState) -> float:
        """Seconds the server asks for, else 0.5, 1, 2, ...; at most `longest_wait_seconds`."""
        error = state.outcome.exception() if state.outcome is not None else None
        asked = retry_after(getattr(getattr(error, "response", None), "headers", {}))
        seconds = 0.5 * 2.0 ** (state.attempt_number - 1) if asked is None else asked
        return min(seconds, self._patience.longest_wait_seconds)


@dataclass(frozen=True, kw_only=True)
class _ReplyTurn:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    first_token: tuple[tuple[str, float], ...]


def retry_after(headers: Any) -> float | None:
    """Seconds that a Retry-After header (seconds or an HTTP date) asks to wait; None without a readable one."""
    text = headers.get("retry-after")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _read(completion: Any) -> _ReplyTurn:
    """Raises ValueError when the body is not a chat completion."""
    try:
        choice = completion["choices"][0]
        tokens = (choice.get("logprobs") or {}).get("content") or [{"top_logprobs": ()}]
        usage = completion.get("usage") or {}
        return _ReplyTurn(
            text=str(choice["message"]["content"] or ""),
            finish_reason=str(choice.get("finish_reason") or ""),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            first_token=tuple((entry["token"], float(entry["logprob"])) for entry in tokens[0]["top_logprobs"]),
        )
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"the body is not a chat completion ({error!r})") from error


def _reason(error: Exception) -> tuple[FailureKind, str]:
    import openai

    if isinstance(error, openai.APIStatusError):
        passing = error.status_code == 429 or error.status_code >= 500
        return "failing" if passing else "refused", f"the server answered {error.status_code}: {error.message[:300]}"
    if isinstance(error, openai.APITimeoutError):
        return "timeout", "the server did not answer in time"
    if isinstance(error, openai.APIConnectionError):
        return "unreachable", f"no connection to the server ({error.__cause__ or error.message})"
    return "unreadable", f"the server's answer could not be read ({str(error)[:300]})"
