"""vLLM where it can run, else transformers, and it says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.serve.chat_template import ChatTemplate
from eval.serve.machine import unavailable
from eval.serve.server import InProcess, Serve, Server
from eval.serve.transformers_server import Transformers
from eval.serve.vllm_server import VLLM


@dataclass(frozen=True, kw_only=True)
class Automatic(Serve):
    """The settings that matter on one small machine; which server takes them is decided when it starts."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    kv_cache_gb: float = 1.0
    batch_size: int = 16
    servers: int | None = None

    def __post_init__(self) -> None:
        self._vllm(), self._transformers()  # their range checks are ours

    def chosen(self) -> tuple[VLLM | Transformers, str]:
        """The server that will be used on this machine, and why it is not vLLM (empty when it is)."""
        reason = unavailable()
        return (self._vllm(), "") if reason is None else (self._transformers(), reason)

    def precision(self, stored: str) -> str | None:
        """The chosen server's."""
        return self.chosen()[0].precision(stored)

    @property
    def modules(self) -> tuple[str, ...]:
        """Those of the server that will be used."""
        return self.chosen()[0].modules

    @property
    def libraries(self) -> tuple[str, ...]:
        return self.chosen()[0].libraries

    @property
    def runs_on(self) -> str:
        return self.chosen()[0].runs_on

    @property
    def in_process(self) -> InProcess | None:
        return self.chosen()[0].in_process

    def template_of(self, checkpoint: Path) -> ChatTemplate | None:
        return self.chosen()[0].template_of(checkpoint)

    def obstacles(self) -> list[str]:
        return self.chosen()[0].obstacles()

    def side_by_side(self, gpus: Sequence[str]) -> tuple[Serve, ...]:
        return self.chosen()[0].side_by_side(gpus)

    def identity(self) -> Mapping[str, object]:
        """That of the server that will be used."""
        return self.chosen()[0].identity()

    def start(self, *, logs: Path, say: Callable[[str], None]) -> AbstractContextManager[Server]:
        """The chosen server's own context manager."""
        choice, reason = self.chosen()
        if reason:
            say(f"vLLM cannot run here ({reason})")
        return choice.start(logs=logs, say=say)

    def _vllm(self) -> VLLM:
        return VLLM(
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            max_num_seqs=self.max_num_seqs,
            kv_cache_gb=self.kv_cache_gb,
            servers=self.servers,
        )

    def _transformers(self) -> Transformers:
        return Transformers(dtype=self.dtype, max_model_len=self.max_model_len, batch_size=self.batch_size)
