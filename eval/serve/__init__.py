"""Serving a checkpoint: the choices, and the one way to start any of them.

    with serving(VLLM(dtype="float32"), logs=directory, say=print) as server:
        loaded = server.load(checkpoint)      # how it came to be served, and the digest of what is served
        server.endpoint                       # base_url, model, key: give it to chat_client.ask

A choice is a frozen dataclass with `start`; adding one is a file here, a line in SERVERS and a YAML in conf/serve.
Nothing here imports vllm, torch, transformers or openai before a server starts.  In reading order:

    server.py                                        what every choice of server gives
    checkpoint.py, machine.py, memory.py             what a checkpoint and this machine say of themselves
    chat_template.py                                 what is said to a model, as the text that its server takes
    vllm_server.py, vllm_log.py, reload.py, probe.py, control.py  vLLM: started, reloaded, the right weights proved
    guard.py, guardian.py                            no request without the key, no process left behind
    transformers_server.py, generation.py, loading.py    where vLLM cannot run
    automatic.py, existing_endpoint.py               whichever can run; somebody else's
    standing.py, lanes.py                            servers kept up from cell to cell, and several side by side
    said.py                                          what a completion says, apart from thinking
    endpoint_client.py, wishes.py                    one request, asked again by one rule; as its endpoint wishes
    chat_client.py, worker_pool.py                   many questions at a time
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from eval.serve.automatic import Automatic
from eval.serve.existing_endpoint import ExistingEndpoint
from eval.serve.server import Endpoint, Loaded, Serve, Server
from eval.serve.transformers_server import Transformers
from eval.serve.vllm_server import VLLM

SERVERS: dict[str, type[Serve]] = {
    "vllm": VLLM,
    "transformers": Transformers,
    "endpoint": ExistingEndpoint,
    "auto": Automatic,
}


def serving(
    config: Serve, *, logs: Path, say: Callable[[str], None] = lambda line: None
) -> AbstractContextManager[Server]:
    """The server that `config` describes; `logs` is created.  Nothing it started is left when the context ends."""
    logs.mkdir(parents=True, exist_ok=True)
    return config.start(logs=logs, say=say)


__all__ = [
    "SERVERS",
    "VLLM",
    "Automatic",
    "Endpoint",
    "ExistingEndpoint",
    "Loaded",
    "Serve",
    "Server",
    "Transformers",
    "serving",
]
