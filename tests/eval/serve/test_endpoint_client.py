"""What an endpoint says is rid of the key, and the key goes nowhere else; a reply is whole in time or none."""

import asyncio
import http.server
import threading
import time
from urllib.parse import quote

import pytest

from eval.serve.control import Control
from eval.serve.endpoint_client import EndpointClient, NoReply, Patience, said_without, tokens_of, without

KEY = "sk-a/b+c 0123456789"


@pytest.fixture
def serve():
    """Start servers whose every answer is `reply(handler)`; their addresses, and the Authorization headers they saw."""
    started = []

    def start(reply):
        seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                seen.append(self.headers.get("Authorization"))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    reply(self)
                except OSError:
                    pass  # the client had enough

            do_POST = do_GET

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}", seen

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def answer(handler, status, body=b"{}", **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def complete(address, *, timeout=5.0, read=lambda found: found):
    async def run():
        client = EndpointClient(
            base_url=f"{address}/v1", model="m", key=KEY, patience=Patience(attempts=1, timeout_seconds=timeout)
        )
        async with client:
            return await client.complete({"messages": []}, read)

    return asyncio.run(run())


def test_the_key_is_masked_however_it_is_spelt():
    said = f"bad {KEY}, in https://x/?key={quote(KEY, safe='')} too"
    assert without(KEY, said) == "bad ***, in https://x/?key=*** too"
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    assert said_without(KEY, f'{{"{escaped}": ["{escaped}!", 1]}}'.encode()) == {"***": ["***!", 1]}


def test_a_key_too_short_to_be_one_is_left():
    assert without("none", "none of them") == "none of them"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_an_error_that_quotes_the_key_does_not_pass_it_on(serve, status):
    address, seen = serve(lambda handler: answer(handler, status, f'{{"error": {{"message": "no {KEY}"}}}}'.encode()))
    with pytest.raises(NoReply) as failed:
        complete(address)
    assert seen == [f"Bearer {KEY}"]
    assert KEY not in str(failed.value) + failed.value.said and "no ***" in failed.value.said


def test_a_body_that_is_no_json_does_not_pass_the_key_on(serve):
    address, _ = serve(lambda handler: answer(handler, 200, f"<html>{KEY}</html>".encode()))
    with pytest.raises(NoReply, match="could not be read") as failed:
        complete(address)
    assert KEY not in str(failed.value)
    assert Control(root=address, key=KEY).get("/x") == (200, "<html>***</html>")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_does_not_follow_a_redirect(serve, status):
    elsewhere, seen = serve(lambda handler: answer(handler, 200))
    moved = elsewhere.replace("127.0.0.1", "localhost")
    address, _ = serve(lambda handler: answer(handler, status, Location=f"{moved}/v1/chat/completions"))
    with pytest.raises(NoReply, match=rf"{status}.*sends to {moved}.*set base_url") as failed:
        complete(address)
    assert failed.value.kind == "refused"
    assert Control(root=address, key=KEY).get("/v1/models")[0] == status
    assert seen == []


def test_half_a_letter_is_mended_and_a_whole_one_kept():
    found = said_without("", b'["a\\ud800b", "\\ude00", "\\ud83d\\ude00", "\xc3\xa9"]')
    assert found == ["a\ufffdb", "\ufffd", "\U0001f600", "é"]
    "".join(found).encode()


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_a_body_that_is_nested_without_end_is_unreadable(serve, depth):
    address, _ = serve(lambda handler: answer(handler, 200, b"[" * depth + b"]" * depth))
    with pytest.raises(NoReply, match="nested too deeply") as failed:
        complete(address)
    assert failed.value.kind == "unreadable"


def test_tokens_are_whole_numbers_above_zero_or_none():
    odd = (None, "many", -5, 2.5, [3], {}, float("nan"))
    for value in odd:
        assert tokens_of({"usage": {"prompt_tokens": 7, "completion_tokens": value}}) == (7, 0)
    assert [tokens_of(found) for found in (None, [], {}, {"usage": "x"})] == [(0, 0)] * 4


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def test_a_reply_that_drips_is_given_up_when_its_time_is_over(serve):
    address, _ = serve(drip)
    started = time.monotonic()
    with pytest.raises(NoReply) as failed:
        complete(address, timeout=0.5)
    assert failed.value.kind == "timeout"
    assert Control(root=address, key="").get("/v1/models", timeout=0.5) == (0, "its reply was not whole in time")
    assert time.monotonic() - started < 5


def test_a_reply_without_end_is_given_up(serve, monkeypatch):
    monkeypatch.setattr("eval.serve.control._LARGEST", 10_000)
    address, _ = serve(lambda handler: answer(handler, 200, b" " * 100_000))
    status, why = Control(root=address, key="").get("/v1/models")
    assert status == 0 and "more than" in why
