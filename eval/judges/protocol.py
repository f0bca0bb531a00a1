"""What a judge is, and what is asked of its settings: callers ask the judge, never its type."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, cast

from eval.exchange import HandOver, JudgeRequest
from eval.judges.price import Price
from eval.records import Unscored, Verdict
from eval.serve import Serve
from fusion.runtime.configure import plain

Identity = tuple[dict[str, object], dict[str, str]]


class Judge(Protocol):
    """Somebody who replies to requests; what the replies mean is the benchmark's to say."""

    @property
    def label(self) -> str:
        """The name under which its verdicts are recorded."""

    def judge(self, requests: Sequence[JudgeRequest], hand_over: HandOver) -> None:
        """Hand over one reply per request, each as soon as it is there."""


class Board(Protocol):
    """A judge that is made of others: `members` by name, who look `layers` times."""

    @property
    def members(self) -> Mapping[str, Member]: ...

    @property
    def layers(self) -> int: ...

    def aggregate(
        self, request: JudgeRequest, layers: Sequence[Mapping[str, Verdict | Unscored]]
    ) -> Verdict | Unscored:
        """Its verdict on one request from its members' verdicts, layer by layer."""


class Member(ABC):
    """The settings of a judge that sits alone or in a panel, with what is so of it unless it says otherwise."""

    # Whether it is a language model, whose replies are counted in tokens, and which can read what others said.
    is_model: ClassVar[bool] = False
    board: ClassVar[Board | None] = None
    repeats: int = 1
    readings: int = 1
    family: str | None = None
    price: Price | None = None
    budget: float | None = None

    @property
    @abstractmethod
    def label(self) -> str:
        """The name under which its verdicts are recorded."""

    @property
    def kin(self) -> str | None:
        """Whose model it is, where that is known."""
        return self.family

    @property
    def directory(self) -> Path | None:
        """Its weights, where they are ours to serve."""
        return None

    @property
    def replayed(self) -> tuple[Path, str | None] | None:
        """The file whose verdicts it replays, and the judged model's name there."""
        return None

    def identity(self, weights_of: Callable[[Path], str], served_as: Serve) -> Identity:
        """What of it can change a verdict, as the config and inputs of a key.  `weights_of` gives the digest of a
        directory, `served_as` says how the models under test are served."""
        return plain(self), {}

    def modules(self, benchmark: str, reading: str, served_as: Serve) -> tuple[str, ...]:
        """The modules that make and read its replies, of the `benchmark`'s own and the one `reading` its replies."""
        return "eval.judging.collect", type(self).__module__, benchmark

    def libraries(self, served_as: Serve) -> tuple[str, ...]:
        """The packages that compute its replies here."""
        return ()

    def obstacles(self, served_as: Serve) -> list[str]:
        """What would keep it from judging, as far as is known without asking anybody; each with the way out."""
        return []

    def asked_once(self) -> str | None:
        """Why it would refuse every question, found by one short request where replies are paid; None: not so."""
        return None

    def running(self, serve: Serve, stack: contextlib.ExitStack, *, logs: Path, say: Callable[[str], None]) -> Judge:
        """Who is asked: itself, a `Judge`, unless something must be started, which ends with `stack`."""
        return cast(Judge, self)
