"""What every choice of server gives: an endpoint to ask, and a way to put the next checkpoint behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from eval.serve.chat_template import ChatTemplate

How = Literal["started", "reloaded", "restarted", "unchanged", "given"]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible address.  The key is kept out of every printed form.

    `template`: what conversations are rendered by before they are sent there; None where the server does it.
    """

    base_url: str
    model: str
    key: str = field(repr=False)
    template: ChatTemplate | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """How a checkpoint came to be served."""

    how: How
    checkpoint: Path | None
    weights: str
    """Their digest."""
    seconds: float
    why: str = ""
    """What kept it from a reload in place."""
    probe: float | None = None
    """The mean absolute difference, in nats per token, between the server's log-probabilities of a fixed text and those
    of an independent forward pass over the same files; None where no such pass was made."""
    dtype: str | None = None
    """The precision that the server computes in; None where it does not say."""


class Server(Protocol):
    """One address that serves one checkpoint at a time.  `note` is a sentence for reports, empty when all is usual."""

    note: str

    @property
    def endpoint(self) -> Endpoint:
        """Where to ask.  Raises ServerFailure before the first `load`."""

    def load(self, checkpoint: Path) -> Loaded:
        """Serve `checkpoint` from now on.  Raises Refusal for unfit files, ServerFailure when serving fails."""


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """How a model is loaded by this process: torch's names, `dtype` = auto is the checkpoint's own; and the most tokens
    it is to read, None for its own limit.
    """

    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    longest: int | None


class Serve(ABC):
    """A choice of server: a frozen dataclass of settings that `start`s it; leaving the context ends all it began.

    It also says what of it can change an answer, which is part of the answers' key: neither a port nor patience is.
    What is here is so of a server that is not ours; the others say otherwise.
    """

    @property
    def modules(self) -> tuple[str, ...]:
        """The code that decides how it answers (fusion.runtime.fingerprint)."""
        return ()

    @property
    def libraries(self) -> tuple[str, ...]:
        """The packages that compute its answers."""
        return ()

    @property
    def runs_on(self) -> str | None:
        """The device it computes on, None where nobody knows."""
        return None

    @property
    def in_process(self) -> InProcess | None:
        """How models are loaded to be measured, where it answers chat requests only; None where it measures too."""
        return None

    def template_of(self, checkpoint: Path) -> ChatTemplate | None:
        """What conversations are rendered by before they are sent; None where the server does it."""
        return None

    @property
    def port(self) -> int | None:
        """The port of this machine that it was told to listen on, None where it finds a free one or starts nothing."""
        return None

    @property
    def alone(self) -> bool:
        """Whether no second one of these settings can serve beside it."""
        return self.port is not None

    def obstacles(self) -> list[str]:
        """What would keep it from starting here, as far as is known without starting it; each with the way out."""
        return []

    def asked_once(self) -> str | None:
        """Why a server that is not ours would not serve, found by asking it; None: not so."""
        return None

    def side_by_side(self, gpus: Sequence[str]) -> tuple[Serve, ...]:
        """These settings once for every server that fits on the GPUs, pinned to its own; none where it takes none.

        Raises Refusal for fewer GPUs than one server takes.
        """
        return ()

    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """The settings that can change an answer, those left open as this machine settles them."""

    def precision(self, stored: str) -> str | None:
        """The type in which weights that are `stored` in one are computed with, both torch's names; None where only
        the server knows.
        """
        return None

    @abstractmethod
    def start(self, *, logs: Path, say: Callable[[str], None]) -> AbstractContextManager[Server]:
        """`logs` is the directory for the server's log; `say` receives one line per event a person should see."""
