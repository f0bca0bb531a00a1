"""A server that is running already: nothing is started, nothing is reloaded, the given checkpoint is taken on trust."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.errors import ServerFailure
from eval.serve.checkpoint import weights_digest
from eval.serve.control import Control
from eval.serve.server import Endpoint, Loaded, Serve
from fusion.runtime.configure import Refusal
from fusion.runtime.preflight import refusals


@dataclass(frozen=True, kw_only=True)
class ExistingEndpoint(Serve):
    """An OpenAI-compatible `base_url` (ending in /v1) and the model to ask there.

    `key_variable` names the environment variable that holds the key, None for an endpoint that wants none; the key
    itself is never part of a config.
    """

    base_url: str
    model: str
    key_variable: str | None = None

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url is {self.base_url!r}: expected http://HOST:PORT/v1")

    def identity(self) -> Mapping[str, object]:
        """Where it is, and the model it is asked for."""
        return {"type": type(self).__name__, "base_url": self.base_url, "model": self.model}

    @property
    def alone(self) -> bool:
        """It serves one checkpoint."""
        return True

    def obstacles(self) -> list[str]:
        return refusals(self._key)

    def asked_once(self) -> str | None:
        return next(iter(refusals(self._checked)), None)

    @contextlib.contextmanager
    def start(self, *, logs: Path, say: Callable[[str], None]) -> Iterator[EndpointServer]:
        """The endpoint.  Raises Refusal without its key, ServerFailure when nobody answers or has no such model."""
        yield EndpointServer(self._checked())

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "") if self.key_variable else "none"
        if not key:
            raise Refusal(
                f"no key for {self.base_url}: set the environment variable {self.key_variable}, or name another in"
                " serve.key_variable"
            )
        return key

    def _checked(self) -> Endpoint:
        """Where to ask, after the list of its models was asked for."""
        endpoint = Endpoint(base_url=self.base_url.rstrip("/"), model=self.model, key=self._key())
        status, reply = Control(root=endpoint.base_url, key=endpoint.key).get("/models", timeout=30.0)
        if status == 0:
            raise ServerFailure(f"nobody answers at {self.base_url} ({reply}): start the server, or set serve.base_url")
        if status in (401, 403):
            raise ServerFailure(f"{self.base_url} refuses the key in {self.key_variable} ({status})")
        listed = reply.get("data") if isinstance(reply, dict) else None
        entries = listed if isinstance(listed, list) else []
        names = [str(entry.get("id")) for entry in entries if isinstance(entry, dict)]
        if names and self.model not in names:
            raise ServerFailure(f"{self.base_url} has no model {self.model!r}: it has {', '.join(names[:20])}")
        return endpoint


class EndpointServer:
    """Serves one checkpoint for its whole life: the one it is first asked to `load`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._weights = ""
        self.note = f"answers came from {endpoint.base_url}; that it serves the named weights was not checked"

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    def load(self, checkpoint: Path) -> Loaded:
        """Nothing is loaded; a second, different checkpoint is refused, as this endpoint cannot load another."""
        weights = weights_digest(checkpoint)
        if self._weights and weights != self._weights:
            raise Refusal(
                f"serve=endpoint serves one model, and {checkpoint} is a second one: choose serve=vllm, or evaluate"
                " them one by one"
            )
        self._weights = weights
        return Loaded(how="given", checkpoint=checkpoint, weights=weights, seconds=0.0)
