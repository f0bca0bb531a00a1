"""A judge model of one's own, served by the same machinery as the models under test.

    judge=served judge.checkpoint=DIR

Its verdicts are kept under the digest of its weights, so the directory may move.  The server starts at the first
question that needs it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import JudgeFailure
from eval.exchange import HandOver, JudgeRequest, Reply
from eval.judges.asking import Address, ask_judge
from eval.judges.model_judge import ModelJudge
from eval.judges.protocol import Identity, Judge
from eval.serve import VLLM, Automatic, ExistingEndpoint, Serve, Server, Transformers, serving
from eval.serve.chat_template import refuse_unfit
from eval.serve.control import Control
from eval.serve.memory import served_bytes, size_of
from fusion.runtime.configure import Refusal, plain
from fusion.runtime.given_model import family_in
from fusion.runtime.preflight import machine_memory, memory_problems, refusals, refuse


@dataclass(frozen=True, kw_only=True)
class Served(ModelJudge):
    """`checkpoint`: a Hugging Face directory.  `serve`: how it is served; None: as the models under test are."""

    checkpoint: str
    serve: VLLM | Transformers | ExistingEndpoint | Automatic | None = None
    concurrency: int = 64
    timeout_seconds: float = 600.0

    @property
    def directory(self) -> Path:
        """Raises Refusal when there is no checkpoint."""
        found = Path(self.checkpoint).expanduser()
        if not (found / "config.json").exists():
            raise Refusal(
                f"judge.checkpoint={self.checkpoint}: there is no config.json; expected a checkpoint directory"
            )
        return found

    @property
    def kin(self) -> str | None:
        """Where nobody says it, the family that its architecture is named after."""
        return self.family or family_in(self.directory)

    def identity(self, weights_of: Callable[[Path], str], served_as: Serve) -> Identity:
        serve = (self.serve or served_as).identity()
        config = {"type": "Served", "serve": serve, "reply": self.reply, "extra": plain(self.extra)}
        return {**config, "readings": self.readings}, {"judge": weights_of(self.directory)}

    def obstacles(self, served_as: Serve) -> list[str]:
        serve = self.serve or served_as
        return [*refusals(lambda: self._fits(serve)), *serve.obstacles()]

    def _fits(self, serve: Serve) -> None:
        """Raises Refusal when there is no checkpoint, or one that this machine's memory does not hold."""
        held = served_bytes(size_of(self.directory), serve)
        refuse(memory_problems({f"serving judge {self.label}": held}, machine_memory()))

    def modules(self, benchmark: str, reading: str, served_as: Serve) -> tuple[str, ...]:
        return *super().modules(benchmark, reading, served_as), *(self.serve or served_as).modules

    def libraries(self, served_as: Serve) -> tuple[str, ...]:
        return (self.serve or served_as).libraries

    def running(self, serve: Serve, stack: contextlib.ExitStack, *, logs: Path, say: Callable[[str], None]) -> Judge:
        """Raises Refusal when there is no checkpoint."""
        logs.mkdir(parents=True, exist_ok=True)
        return RunningJudge(self, serve, stack, logs=Path(tempfile.mkdtemp(dir=logs, prefix="judge-")), say=say)

    @property
    def label(self) -> str:
        return self.labelled(f"served:{Path(self.checkpoint).name}")


class RunningJudge:
    """A served judge while it judges: its server starts at the first request and ends with `stack`."""

    def __init__(
        self, settings: Served, serve: Serve, stack: contextlib.ExitStack, *, logs: Path, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._serve = settings.serve or serve
        self._stack = stack
        self._logs = logs
        self._say = say
        self._server: Server | None = None

    @property
    def label(self) -> str:
        return self._settings.label

    def judge(self, requests: Sequence[JudgeRequest], hand_over: HandOver) -> None:
        """Hand over one reply per request; a prompt too long for the judge is rejected.

        Where the server died, a new one is started once and asked for the rest.  Raises Refusal when the checkpoint
        cannot be served, JudgeFailure when its server answers no more.
        """
        if not requests:
            return
        if self._server is None:
            template = self._serve.template_of(self._settings.directory)
            if template is not None:
                refuse_unfit(template, [request.messages for request in requests[:1]], where=self._settings.directory)
            self._server = self._stack.enter_context(serving(self._serve, logs=self._logs, say=self._say))
        answered = set()

        def keep(request: JudgeRequest, reply: Reply) -> None:
            if reply.failure is None or reply.rejected:
                answered.add(request.place)
            hand_over(request, reply)

        self._server.load(self._settings.directory)
        try:
            self._ask(self._server, requests, keep)
        except JudgeFailure:
            if self._server.load(self._settings.directory).how != "restarted":
                raise
            rest = [request for request in requests if request.place not in answered]
            self._ask(self._server, rest, hand_over)

    def _ask(self, server: Server, requests: Sequence[JudgeRequest], hand_over: HandOver) -> None:
        endpoint, settings = server.endpoint, self._settings
        address = Address(
            base_url=endpoint.base_url,
            model=endpoint.model,
            key=endpoint.key,
            remedy=f"the server's log in {self._logs}",
            longest=_context(endpoint.base_url, endpoint.key),
            seeded=True,
            template=endpoint.template,
        )
        ask_judge(address, requests, hand_over, settings)


def _context(base_url: str, key: str) -> int | None:
    """The server's longest sequence where it reports one: vLLM rejects requests for more reply tokens than that."""
    status, reply = Control(root=base_url, key=key).get("/models")
    models = reply.get("data") if status == 200 and isinstance(reply, dict) else None
    found = models[0].get("max_model_len") if models else None
    return found if isinstance(found, int) else None
