"""Plain HTTP to a server: health, models, reload, probe.  Questions go through chat_client instead."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from eval.serve.endpoint_client import said_without, without

_LARGEST = 64 * 2**20  # bytes: no answer to what is asked here has a hundredth of it
_PIECE = 2**16


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib takes the key along to wherever a server sends it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:  # fmt: skip
        return None


# Loopback never goes through a proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


@dataclass(frozen=True, kw_only=True)
class Control:
    """Requests to `root` (no trailing slash) with the key; every failure to answer comes back as status 0."""

    root: str
    key: str = field(repr=False)

    def get(self, path: str, *, timeout: float = 10.0) -> tuple[int, Any]:
        """Status and decoded body of GET `path`; 0 and the reason when nobody answered."""
        return self._ask(urllib.request.Request(self.root + path), timeout)

    def post(
        self, path: str, body: object = None, *, timeout: float = 600.0, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded body of POST `path` with `body` as JSON."""
        data = json.dumps({} if body is None else body).encode()
        request = urllib.request.Request(self.root + path, data=data, method="POST", headers=dict(headers or {}))
        return self._ask(request, timeout)

    def _ask(self, request: urllib.request.Request, timeout: float) -> tuple[int, Any]:
        request.add_header("Content-Type", "application/json")
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        deadline = time.monotonic() + timeout
        try:
            with _DIRECT.open(request, timeout=timeout) as reply:
                return reply.status, self._decoded(_whole(reply, deadline))
        except urllib.error.HTTPError as error:
            with error:
                return error.code, self._decoded(_whole(error, deadline))
        except (OSError, ValueError, http.client.HTTPException) as error:
            return 0, without(self.key, str(getattr(error, "reason", error)))

    def _decoded(self, body: bytes) -> Any:
        try:
            return said_without(self.key, body)
        except ValueError:
            return without(self.key, body.decode(errors="replace"))


def _whole(reply: IO[bytes], deadline: float) -> bytes:
    """The body of a reply.  Raises TimeoutError when it is not whole by the deadline: the timeout of a connection is
    for each read, and a server that sends a byte now and then has many; ValueError when it has no end.
    """
    found = bytearray()
    while piece := reply.read1(_PIECE):  # type: ignore[attr-defined]  # of every reply of urllib's
        found += piece
        if time.monotonic() > deadline:
            raise TimeoutError("its reply was not whole in time")
        if len(found) > _LARGEST:
            raise ValueError(f"its reply has more than {_LARGEST >> 20} MB")
    return bytes(found)
