"""ASGI middleware that demands the key on every path but /health: `--middleware eval.serve.guard.KeyGuard`.

vLLM's own check covers its /v1-like paths only, while /collective_rpc, which calls any method of the workers, stays
open.  This one is outermost.  The key is read from VLLM_API_KEY, so it appears on no command line and in no log; with
no key in the environment nothing but /health is answered.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, object]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, object]]]

_REFUSED = (
    b'{"error":{"message":"this server needs its key: Authorization: Bearer KEY","type":"unauthorized","code":401}}'
)


class KeyGuard:
    """Answers 401 to HTTP requests, and closes web sockets, that do not carry `Authorization: Bearer <key>`."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._key = os.environ.get("VLLM_API_KEY", "").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope.get("path") == "/health" or self._has_key(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSED})

    def _has_key(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
        return authorised(given, self._key)


def authorised(header: bytes, key: bytes) -> bool:
    """Whether an Authorization header carries `key`; an empty key opens nothing."""
    return bool(key) and hmac.compare_digest(header, b"Bearer " + key)
