"""vLLM where it can run, else transformers, and it says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from eval.serve.server import Server
from eval.serve.transformers_server import Transformers
from eval.serve.vllm_server import VLLM, unavailable


@dataclass(frozen=True, kw_only=True)
class Automatic:
    """Both choices' settings; which one is used is decided when the server starts."""

    vllm: VLLM = field(default_factory=VLLM)
    transformers: Transformers = field(default_factory=Transformers)

    def chosen(self) -> tuple[VLLM | Transformers, str]:
        """The settings that will be used on this machine, and why they are not vLLM's (empty when they are)."""
        reason = unavailable()
        return (self.vllm, "") if reason is None else (self.transformers, reason)

    def start(self, *, logs: Path, say: Callable[[str], None]) -> AbstractContextManager[Server]:
        """The chosen server's own context manager."""
        choice, reason = self.chosen()
        if reason:
            say(f"vLLM cannot run here ({reason})")
        return choice.start(logs=logs, say=say)
