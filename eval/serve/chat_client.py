"""Questions to an OpenAI-compatible server, many at a time, each reply handed out the moment it is complete.

    ask(endpoint, requests, on_reply)                  # from ordinary code
    async with ChatClient(endpoint) as client:         # or inside an event loop
        await answer_all(client, requests, on_reply)

Messages go to /v1/chat/completions only, so the chat template is the checkpoint's own.  A request that
`eval.serve.endpoint_client` finally gets no reply to becomes a reply with a `failure`, and its neighbours go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from eval.errors import ServerFailure
from eval.serve.endpoint_client import EndpointClient, FailureKind, NoReply, Patience, Silence, tokens_of
from eval.serve.said import said_in, without_thinking
from eval.serve.server import Endpoint
from eval.serve.worker_pool import work_through

CUT = "length"  # why a turn ended that was cut at max_tokens
_FILTERED = "content_filter"  # as OpenAI and Azure say it


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


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """What came back for one request."""

    id: str
    turns: tuple[str, ...]  # the model's, in order; fewer than asked where `failure` says why the next one is missing
    finish_reasons: tuple[str, ...] = ()  # per turn: stop, length
    thought: int = 0  # turns from which thinking was taken out
    prompt_tokens: int = 0  # summed over turns, as `completion_tokens` are
    completion_tokens: int = 0
    # Per turn, pairs of token text and log-probability in nats, where the request asked for them.
    first_token: tuple[tuple[tuple[str, float], ...], ...] = ()
    failure: str | None = None
    kind: FailureKind | None = None


async def answer_all(
    client: ChatClient,
    requests: Sequence[ChatRequest],
    on_reply: Callable[[ChatRequest, ChatReply], None],
    *,
    concurrency: int = 128,
) -> None:
    """Ask every request, `concurrency` at a time, and hand each reply out at once, in the order of completion.

    Raises ServerFailure when nobody answered 20 requests in a row, or when nobody could be reached for all of fewer;
    replies handed out before are the caller's to keep.  What `on_reply` raises stops everything.
    """
    silence = Silence(len(requests))

    async def take(request: ChatRequest) -> None:
        reply = await client.reply(request)
        on_reply(request, reply)
        if silence.lasts(reply.kind):
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
    """Whole conversations with one endpoint; an async context manager that keeps its connections open."""

    def __init__(self, endpoint: Endpoint, patience: Patience | None = None) -> None:
        self._client = EndpointClient(
            base_url=endpoint.base_url,
            model=endpoint.model,
            key=endpoint.key,
            template=endpoint.template,
            patience=patience or Patience(),
            keeps_connections=endpoint.base_url.startswith("http://127.0.0.1:"),
        )

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Hold the whole conversation; a turn that finally fails ends it with a `failure`, earlier turns are kept."""
        messages = [{"role": "system", "content": request.system}] if request.system is not None else []
        said: list[_ReplyTurn] = []
        failure: str | None = None
        kind: FailureKind | None = None
        for turn in request.turns:
            messages.append({"role": "user", "content": turn})
            try:
                found = await self._client.complete(_body(request, messages), _read)
            except NoReply as error:
                kind, failure = error.kind, str(error)
                break
            if found.finish_reason == CUT and not found.text and (found.thought or found.null):
                failure = f"no text among its {request.max_tokens} tokens: all went into thinking; raise max_tokens"
                break
            if not found.text and found.finish_reason == _FILTERED:
                kind, failure = "refused", f"the endpoint withheld the answer ({_FILTERED})"
                break
            said.append(found)
            messages.append({"role": "assistant", "content": said[-1].text})
        return ChatReply(
            id=request.id,
            turns=tuple(turn.text for turn in said),
            finish_reasons=tuple(turn.finish_reason for turn in said),
            thought=sum(turn.thought for turn in said),
            prompt_tokens=sum(turn.prompt_tokens for turn in said),
            completion_tokens=sum(turn.completion_tokens for turn in said),
            first_token=tuple(turn.first_token for turn in said) if request.top_logprobs is not None else (),
            failure=failure,
            kind=kind,
        )


@dataclass(frozen=True, kw_only=True)
class _ReplyTurn:
    text: str
    finish_reason: str
    thought: bool
    null: bool  # the message has no content at all, as endpoints reply that keep thinking in a field of its own
    prompt_tokens: int
    completion_tokens: int
    first_token: tuple[tuple[str, float], ...]


def _body(request: ChatRequest, messages: Sequence[dict[str, str]]) -> dict[str, object]:
    body: dict[str, object] = {
        "messages": list(messages),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body


def _read(completion: Any) -> _ReplyTurn:
    """Raises ValueError when the body is not a chat completion."""
    try:
        choice = completion["choices"][0]
        tokens = (choice.get("logprobs") or {}).get("content") or [{"top_logprobs": ()}]
        prompt, written = tokens_of(completion)
        whole = said_in(choice["message"])
        text = without_thinking(whole)
        return _ReplyTurn(
            text=text,
            finish_reason=str(choice.get("finish_reason") or ""),
            thought=text != whole,
            null=choice["message"].get("content") is None,
            prompt_tokens=prompt,
            completion_tokens=written,
            first_token=tuple((entry["token"], float(entry["logprob"])) for entry in tokens[0]["top_logprobs"]),
        )
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"the body is not a chat completion ({error!r})") from error
