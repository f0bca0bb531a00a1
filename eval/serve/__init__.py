"""Serving a checkpoint: the choices, and the one way to start any of them.

    with serving(VLLM(dtype="float32"), logs=directory, say=print) as server:
        loaded = server.load(checkpoint)      # how it came to be served, and the digest of what is served
        server.endpoint                       # base_url, model, key: give it to chat_client.ChatClient

A choice is a frozen dataclass with `start`; adding one is a file here, a line in SERVERS and a YAML in conf/serve.
Nothing here imports vllm, torch, transformers or openai before a server starts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from eval.serve.server import Endpoint, Loaded, Serve, Server
from eval.serve.vllm_server import VLLM

SERVERS: dict[str, type[Serve]] = {
    "vllm": VLLM,
}


def serving(
    config: Serve, *, logs: Path, say: Callable[[str], None] = lambda line: None
) -> AbstractContextManager[Server]:
    """The server that `config` describes; `logs` is created.  Nothing it started is left when the context ends."""
    logs.mkdir(parents=True, exist_ok=True)
    return config.start(logs=logs, say=say)


__all__ = ["SERVERS", "Endpoint", "Loaded", "Serve", "Server", "serving"]
