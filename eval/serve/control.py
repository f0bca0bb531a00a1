"""Plain HTTP to a server we run: health, reload, probe.  Questions go through chat_client instead."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


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
        try:
            with _DIRECT.open(request, timeout=timeout) as reply:
                return reply.status, _decoded(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read())
        except (OSError, ValueError) as error:
            return 0, str(getattr(error, "reason", error))


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
