"""The one way to ask an OpenAI-compatible address, for answers and for verdicts: one request, its retries, its failure.

    async with EndpointClient(base_url=..., model=..., key=..., patience=Patience()) as client:
        found = await client.complete({"messages": [...]}, read)

What may pass (408, 409, 429, 5xx, timeouts, broken connections, unreadable bodies) is tried again, after the server's
Retry-After where it gives one, else after 1, 2, 4, ... seconds with jitter.  What does not raises NoReply, but for what
an endpoint wants said in another form (`eval.serve.wishes`), which is said so from then on.

The key goes to this address alone, whatever redirect it answers with, and what it says is rid of the key before anybody
reads it, replies and errors alike.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from eval.serve.chat_template import ChatTemplate
from eval.serve.wishes import Wishes
from fusion.runtime.reading import decoded
from fusion.runtime.templates.rendering import TemplateFault

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

FailureKind = Literal["unreachable", "timeout", "failing", "refused", "unreadable"]
_NO_ANSWER = ("unreachable", "timeout", "failing")
# After so many requests in a row that nobody answered, the server is gone.
_GIVE_UP_AFTER = 20
_MAY_PASS = (408, 409, 429)  # and every 5xx
_WISHING = (400, 422)  # a request that is asked for in another form
_NO_MONEY = "insufficient_quota"  # a rate limit by its status, but no waiting helps
_NO_SECRET = 4  # characters: a shorter key stands for none


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How many requests are under way at once, and how long each is given."""

    concurrency: int = 128
    attempts: int = 6
    # From sending a request to the last byte of its reply.
    timeout_seconds: float = 600.0
    # The longest pause between two attempts, whatever the server asks for.
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError(f"concurrency {self.concurrency}, attempts {self.attempts}: expected 1 or more of each")
        if self.timeout_seconds <= 0 or self.longest_wait_seconds < 0:
            raise ValueError(
                f"timeout_seconds {self.timeout_seconds}, longest_wait_seconds {self.longest_wait_seconds}: expected"
                " seconds above 0"
            )


class NoReply(Exception):
    """Why a request finally has no reply; `status` and `said` are the server's, where it answered."""

    def __init__(self, kind: FailureKind, reason: str, *, status: int | None = None, said: str = "") -> None:
        super().__init__(reason)
        self.kind = kind
        self.status = status
        self.said = said


class Silence:
    """Counts requests in a row that nobody answered, `asked` in all."""

    def __init__(self, asked: int) -> None:
        self._asked = asked
        self._unanswered = 0

    def lasts(self, kind: FailureKind | None) -> bool:
        """Whether the server is to be given up after one more request that ended so (None: with a reply).

        It is when 20 in a row went unanswered, or when nobody could be reached for all of fewer.
        """
        self._unanswered = self._unanswered + 1 if kind in _NO_ANSWER else 0
        nobody_at_all = self._unanswered >= self._asked and kind == "unreachable"
        return self._unanswered >= _GIVE_UP_AFTER or nobody_at_all


class EndpointClient:
    """The `openai` client towards one address; an async context manager.

    `base_url` None: OpenAI's own.  `jitter` spreads the retries of many requests that failed at the same moment.
    `template`: what conversations are rendered by before they are sent; None where the server does it.
    `keeps_connections`: only towards a server of our own, since on a kept connection a reply that some gateway sends
    twice answers the next question.
    """

    def __init__(
        self,
        *,
        base_url: str | None,
        model: str,
        key: str,
        patience: Patience,
        jitter: random.Random | None = None,
        template: ChatTemplate | None = None,
        keeps_connections: bool = False,
    ) -> None:
        import openai

        self.model = model
        self._key = key
        self._template = template
        self._wishes = Wishes()
        self._patience = patience
        self._jitter = jitter or random.Random()
        # Reading the certificate store takes most of a second, and a plain http address has no use for it.
        encrypted = not (base_url or "").startswith("http:")
        kept = 1_000 if keeps_connections else 0
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)  # of whichever HTTP library this openai is built on
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key,
            timeout=patience.timeout_seconds,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                verify=encrypted,
                limits=limits(max_connections=None, max_keepalive_connections=kept),
                follow_redirects=False,
            ),
        )

    async def __aenter__(self) -> EndpointClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    @property
    def address(self) -> str:
        return str(self._client.base_url)

    async def complete(self, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """What `read` makes of the decoded reply to a chat completion request; `body` lacks only the model's name.

        `read` raises ValueError for a body it cannot read, which is asked for again.  Raises NoReply when the request
        is refused, or when all attempts failed.
        """
        import openai

        fields = {**body, **self._rendered(body)}
        attempt = 0
        while True:
            attempt += 1
            asked_for = self._wishes.met(fields)
            try:
                # The client's own timeout is for each read, and an endpoint that sends a byte now and then has many.
                async with asyncio.timeout(self._patience.timeout_seconds):
                    # Not chat.completions.create: building its typed objects doubles the client's time per request.
                    reply = await self._client.post(
                        "/chat/completions",
                        body={"model": self.model, **asked_for},
                        cast_to=openai.HttpxBinaryResponseContent,  # its bytes, not decoded
                    )
                return read(said_without(self._key, reply.content))
            except (openai.APIError, ValueError, TimeoutError) as error:
                failure = self._failure(error)
                if failure.status in _WISHING and self._wishes.learn(asked_for, failure.said):
                    attempt -= 1  # another question, which is asked at once
                    continue
                if failure.kind == "refused" or attempt == self._patience.attempts:
                    raise failure from error
                asked = retry_after(getattr(getattr(error, "response", None), "headers", {}))
            longest = self._patience.longest_wait_seconds
            await asyncio.sleep(pause(attempt, asked, longest=longest, jitter=self._jitter))

    def _rendered(self, body: Mapping[str, Any]) -> Mapping[str, object]:
        """What takes the place of the conversation, for a server that takes it rendered."""
        if self._template is None:
            return {}
        try:
            return {"messages": self._template.one_message(body["messages"])}
        except TemplateFault as fault:
            said = f"the chat template cannot render the conversation: {fault}"
            raise NoReply("refused", said, status=400, said=said) from fault

    def _failure(self, error: Exception) -> NoReply:
        import openai

        if isinstance(error, openai.APIStatusError):
            said = without(self._key, error.message)
            moved = error.response.headers.get("location")
            if moved and 300 <= error.status_code < 400:
                said += f": it sends to {without(self._key, moved)}, which was not asked; set base_url if that is right"
            passing = error.status_code in _MAY_PASS or error.status_code >= 500
            kind: FailureKind = "failing" if passing and error.code != _NO_MONEY else "refused"
            reason = f"the server answered {error.status_code}: {said[:300]}"
            return NoReply(kind, reason, status=error.status_code, said=said)
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return NoReply("timeout", "the server did not answer in time")
        if isinstance(error, openai.APIConnectionError):
            why = without(self._key, str(error.__cause__ or error.message))
            return NoReply("unreachable", f"no connection to the server ({why})")
        return NoReply("unreadable", f"the server's answer could not be read ({without(self._key, str(error))[:300]})")


def without(key: str, text: str) -> str:
    """Text of an endpoint as it may be kept: with a mark for the key, which some quote, also as addresses spell it, and
    U+FFFD for half a surrogate pair, which no file can hold.
    """
    if len(key) > _NO_SECRET:
        for spelt in dict.fromkeys((key, urllib.parse.quote(key, safe=""))):
            text = text.replace(spelt, "***")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said_without(key: str, body: bytes) -> Any:
    """The decoded JSON body of a reply, each text in it as `without` leaves it.  Raises ValueError for other bodies."""
    return _each_without(key, decoded(body, halves=True))


def _each_without(key: str, found: Any) -> Any:
    if isinstance(found, str):
        return without(key, found)
    if isinstance(found, list):
        return [_each_without(key, item) for item in found]
    if isinstance(found, dict):
        return {without(key, name): _each_without(key, item) for name, item in found.items()}
    return found


def tokens_of(completion: Any) -> tuple[int, int]:
    """Prompt and completion tokens as the endpoint counts them; 0 where it says none, or nothing that can be so."""
    said = completion.get("usage") if isinstance(completion, dict) else None
    found = said if isinstance(said, dict) else {}
    prompt, written = (found.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return _count(prompt), _count(written)


def _count(said: object) -> int:
    return said if isinstance(said, int) and said > 0 else 0


def pause(attempt: int, asked: float | None, *, longest: float, jitter: random.Random) -> float:
    """Seconds between attempt number `attempt` (from 1) and the next, at most `longest`.

    They are those that the server `asked` for, else 2^(attempt - 1) times a factor between 0.5 and 1.5.
    """
    seconds = 2.0 ** (attempt - 1) * jitter.uniform(0.5, 1.5) if asked is None else asked
    return min(seconds, longest)


def retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait, by Retry-After (seconds, also with their unit, or an HTTP date) or by
    retry-after-ms; None without a readable one."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        found = re.fullmatch(r"\s*\+?(\d+(?:\.\d*)?)\s*(?:s|sec|seconds?|ms)?\s*", headers.get(name) or "")
        if found:
            return float(found[1]) * (1e-3 if "ms" in found[0] else unit)
    try:
        when = email.utils.parsedate_to_datetime(headers.get("retry-after"))
        return max(0.0, when.replace(tzinfo=when.tzinfo or datetime.UTC).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
