"""The key is demanded on every path but /health."""

import asyncio

import pytest

from eval.serve.guard import KeyGuard


def answered(path: str, authorization: str | None, monkeypatch, *, key: str = "secret", kind: str = "http") -> object:
    """The status the guard lets out: 200 from the application behind it, its own 401, or a closed socket's code."""
    monkeypatch.setenv("VLLM_API_KEY", key)
    sent = []

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    async def send(message):
        sent.append(message)

    headers = [] if authorization is None else [(b"Authorization", authorization.encode())]
    asyncio.run(KeyGuard(application)({"type": kind, "path": path, "headers": headers}, None, send))
    return sent[0].get("status", sent[0].get("code"))


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/collective_rpc", "/metrics", "/docs", "/health/", "//health"]
)
def test_every_path_but_health_needs_the_key(path, monkeypatch):
    assert answered(path, None, monkeypatch) == 401
    assert answered(path, "Bearer wrong", monkeypatch) == 401
    assert answered(path, "secret", monkeypatch) == 401
    assert answered(path, "Bearer secret", monkeypatch) == 200


def test_health_is_open(monkeypatch):
    assert answered("/health", None, monkeypatch) == 200


def test_without_a_key_in_the_environment_nothing_is_open(monkeypatch):
    assert answered("/v1/models", "Bearer ", monkeypatch, key="") == 401


def test_a_web_socket_without_the_key_is_closed(monkeypatch):
    assert answered("/v1/realtime", None, monkeypatch, kind="websocket") == 1008
