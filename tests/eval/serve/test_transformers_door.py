"""The fallback's door: the key is asked for before anything is read, and what comes with it has limits."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from eval.serve import Transformers
from eval.serve.transformers_server import TransformersServer

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def door() -> Iterator[TransformersServer]:
    """Listening, without a model: what is let in is answered 500."""
    server = TransformersServer(settings=Transformers())
    server._listen()
    yield server
    server.stop()


def connected(door: TransformersServer) -> socket.socket:
    address = door.endpoint.base_url.removeprefix("http://").removesuffix("/v1")
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    return connection


def status(connection: socket.socket) -> int:
    with connection:
        return int(connection.recv(4096).split(b" ")[1])


def sent(door: TransformersServer, headers: str, body: bytes = b"", method: str = "POST") -> socket.socket:
    connection = connected(door)
    connection.sendall(f"{method} {PATH} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + body)
    return connection


def with_key(door: TransformersServer) -> str:
    return f"Authorization: Bearer {door.endpoint.key}\r\n"


@pytest.mark.parametrize(
    "key",
    ["", "Authorization: Bearer \r\n", "Authorization: Bearer wrong\r\n", "Authorization: Bearer \xe9\r\n"],
    ids=["none", "empty", "another", "no ASCII"],
)
@pytest.mark.parametrize("length", ["5", "60000000", "1000000000000", "-1", "x"])
def test_without_the_key_the_answer_comes_before_the_body_is_sent(door, key, length):
    assert status(sent(door, f"{key}Content-Length: {length}\r\n")) == 401


def test_a_connection_without_the_key_ends_with_its_answer(door):
    connection = sent(door, "Content-Length: 2\r\n", b"{}")
    received = b""
    while data := connection.recv(4096):
        received += data
    connection.close()
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("length", "answer"),
    [
        ("-1", 400),
        ("0x10", 400),
        ("1e3", 400),
        ("٣", 400),
        ("9" * 30, 400),
        (str(64 * 2**20 + 1), 413),
        ("9" * 18, 413),
    ],
)
def test_a_length_that_is_none_or_too_much_is_answered_at_once(door, length, answer):
    connection = connected(door)
    connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{with_key(door)}Content-Length: {length}\r\n\r\n".encode())
    assert status(connection) == answer


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "half a letter": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "messages that are a number": b'{"messages": 3}',
    "a message that is text": b'{"messages": ["hi"]}',
    "no message": b'{"messages": []}',
    "no content": b'{"messages": [{"role": "user"}]}',
    "tokens without end": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": Infinity}',
    "a seed that is a list": b'{"messages": [{"role": "user", "content": "a"}], "seed": [1]}',
    "digits": b'{"messages": [{"role": "user", "content": "a"}], "seed": ' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_no_chat_request_is_said_and_the_next_is_answered(door, body, capfd):
    address = door.endpoint.base_url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(address, timeout=20)
    for _ in range(2):  # on one connection
        connection.request("POST", PATH, body, {"Authorization": f"Bearer {door.endpoint.key}"})
        reply = connection.getresponse()
        assert reply.status == 400
        assert "not a chat request" in json.loads(reply.read())["error"]["message"]
    connection.close()
    assert capfd.readouterr().err == ""


def test_many_who_say_nothing_take_no_more_than_so_many_threads_and_the_door_opens_again(door):
    before = threading.active_count()
    idle = []
    for _ in range(400):
        idle.append(connected(door))
    time.sleep(0.2)
    assert threading.active_count() - before <= 256
    closed = 0
    for connection in idle:
        connection.setblocking(False)
        try:
            closed += connection.recv(1) == b""
        except ConnectionResetError:
            closed += 1
        except BlockingIOError:
            pass
    assert closed >= 400 - 256
    for connection in idle:
        connection.close()
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status(sent(door, "Content-Length: 2\r\n", b"{}")) == 401
