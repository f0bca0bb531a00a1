"""The real client against a scripted endpoint on the loopback: what it retries, what it records, what it sends."""

import asyncio
import contextlib
import email.utils
import http.server
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from eval.errors import ServerFailure
from eval.serve.chat_client import CUT, ChatClient, ChatReply, ChatRequest, answer_all, ask
from eval.serve.endpoint_client import Patience, pause, retry_after
from eval.serve.server import Endpoint

QUICK = Patience(concurrency=4, attempts=3, timeout_seconds=5.0, longest_wait_seconds=0.05)


@dataclass(kw_only=True)
class Script:
    """`act(nth, body)` says what the nth request (from 0) to the endpoint gets; `bodies` and `times` note what came."""

    act: Callable[[int, dict], object]
    bodies: list[dict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    most_at_once: int = 0
    now: int = 0


def completion(text: str, *, finish: str = "stop", logprobs: object = None) -> dict:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@contextlib.contextmanager
def endpoint(act: Callable[[int, dict], object]) -> Iterator[tuple[Endpoint, Script]]:
    """An endpoint; `act` returns a body (200), (status, headers[, body]), raw bytes (200, torn), or None: hangs up."""
    script = Script(act=act)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body["path"], body["key"] = self.path, self.headers["Authorization"]
            with script.lock:
                nth = len(script.bodies)
                script.bodies.append(body)
                script.times.append(time.monotonic())
                script.now += 1
                script.most_at_once = max(script.most_at_once, script.now)
            result = script.act(nth, body)
            with script.lock:
                script.now -= 1
            if result is None:
                self.close_connection = True
                self.connection.close()
                return
            status, headers, data = 200, {}, result
            if isinstance(result, tuple):
                status, headers, *data = result
                data = data[0] if data else {"error": {"message": f"scripted {status}"}}
            raw = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

        def handle(self):
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def finish(self):
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Endpoint(base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", model="model", key="k"), script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(where: Endpoint, requests: list[ChatRequest], patience: Patience = QUICK) -> dict[str, ChatReply]:
    replies: dict[str, ChatReply] = {}
    ask(where, requests, lambda request, reply: replies.__setitem__(request.id, reply), patience=patience)
    return replies


def one(where: Endpoint, patience: Patience = QUICK, **settings) -> ChatReply:
    return asked(where, [ChatRequest(**{"id": "q", "turns": ("hello",), "max_tokens": 5} | settings)], patience)["q"]


def test_the_request_carries_its_sampling_settings_and_goes_to_the_chat_path():
    with endpoint(lambda nth, body: completion("hi")) as (where, script):
        reply = one(where, temperature=0.7, seed=11, max_tokens=9, system="be brief")
    (body,) = script.bodies
    assert reply == ChatReply(id="q", turns=("hi",), finish_reasons=("stop",), prompt_tokens=7, completion_tokens=3)
    assert (body["path"], body["key"], body["model"]) == ("/v1/chat/completions", "Bearer k", "model")
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.7, 11, 9)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_the_second_turn_sees_the_models_own_first_turn():
    with endpoint(lambda nth, body: completion(f"answer {nth + 1}")) as (where, script):
        reply = one(where, turns=("first", "second"))
    assert reply.turns == ("answer 1", "answer 2")
    assert (reply.prompt_tokens, reply.completion_tokens) == (14, 6)
    assert script.bodies[1]["messages"] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer 1"},
        {"role": "user", "content": "second"},
    ]


@pytest.mark.parametrize(
    "hiccup",
    [(429, {}), (500, {}), (503, {}), None, b'{"id": "x", "choi', b"[]", b'{"choices": []}'],
    ids=["rate limit", "error", "unavailable", "dropped", "torn JSON", "no completion", "no choice"],
)
def test_what_may_pass_is_tried_again(hiccup):
    with endpoint(lambda nth, body: hiccup if nth < 2 else completion("at last")) as (where, script):
        reply = one(where)
    assert reply.turns == ("at last",)
    assert reply.failure is None
    assert len(script.bodies) == 3


def test_the_servers_retry_after_is_waited_for():
    patience = Patience(attempts=2, longest_wait_seconds=5.0)
    with endpoint(lambda nth, body: (429, {"Retry-After": "0.8"}) if nth == 0 else completion("ok")) as (where, script):
        assert one(where, patience).turns == ("ok",)
    assert 0.8 <= script.times[1] - script.times[0] < 3.0


def test_retry_after_is_read_in_seconds_and_as_a_date():
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    soon = retry_after({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)})
    assert 25 < soon <= 30


def test_without_the_servers_word_the_pause_doubles_with_jitter_and_is_bounded():
    same, jitter = random.Random(3), random.Random(3)
    factors = [same.uniform(0.5, 1.5) for _ in range(4)]
    pauses = [pause(attempt, None, longest=60.0, jitter=jitter) for attempt in (1, 2, 3, 4)]
    assert pauses == [base * factor for base, factor in zip((1, 2, 4, 8), factors, strict=True)]
    assert len(set(factors)) == 4
    assert pause(9, None, longest=60.0, jitter=jitter) == 60.0
    assert pause(1, 7.5, longest=60.0, jitter=jitter) == 7.5
    assert pause(1, 3600.0, longest=60.0, jitter=jitter) == 60.0


def test_a_reply_that_drips_is_given_no_more_time_than_a_silent_one():
    """Every byte restarts the timeout of a read; the limit is on the whole reply."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(200):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    async def run() -> tuple[ChatReply, float]:
        patience = Patience(attempts=1, timeout_seconds=0.5)
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        where = Endpoint(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", model="m", key="k")
        async with ChatClient(where, patience) as client:
            started = time.monotonic()
            reply = await client.reply(ChatRequest(id="q", turns=("hello",), max_tokens=5))
            taken = time.monotonic() - started
        server.close()
        return reply, taken

    reply, taken = asyncio.run(run())
    assert reply.failure == "the server did not answer in time"
    assert 0.5 <= taken < 5.0


def test_the_key_that_an_endpoint_quotes_is_not_handed_on():
    def act(nth, body):
        return 400, {}, {"error": {"message": f"no such key: {body['key'].removeprefix('Bearer ')}"}}

    with endpoint(act) as (where, _):
        reply = one(Endpoint(base_url=where.base_url, model="m", key="secret-7"))
    assert "400" in reply.failure
    assert "no such key: ***" in reply.failure
    assert "secret-7" not in reply.failure


def test_a_request_that_finally_fails_is_recorded_and_its_neighbours_go_on():
    def act(nth, body):
        return (500, {}) if body["messages"][-1]["content"] == "bad" else completion("fine")

    requests = [ChatRequest(id=str(i), turns=("bad" if i == 2 else "good",), max_tokens=5) for i in range(6)]
    with endpoint(act) as (where, script):
        replies = asked(where, requests)
    assert sorted(replies) == ["0", "1", "2", "3", "4", "5"]
    assert [key for key, reply in replies.items() if reply.failure] == ["2"]
    assert "500" in replies["2"].failure
    assert len(script.bodies) == 5 + QUICK.attempts


def test_a_refused_request_is_not_repeated():
    with endpoint(lambda nth, body: (400, {})) as (where, script):
        reply = one(where)
    assert len(script.bodies) == 1
    assert "400" in reply.failure
    assert "scripted 400" in reply.failure


def test_turns_before_a_failed_one_are_kept():
    with endpoint(lambda nth, body: completion("first") if nth == 0 else (400, {})) as (where, _):
        reply = one(where, turns=("a", "b"))
    assert reply.turns == ("first",)
    assert reply.failure


def test_a_slow_server_times_out_and_the_reason_says_so():
    patience = Patience(attempts=2, timeout_seconds=0.3, longest_wait_seconds=0.01)
    with endpoint(lambda nth, body: time.sleep(1.0) or completion("late")) as (where, script):
        reply = one(where, patience)
    assert reply.failure == "the server did not answer in time"
    assert len(script.bodies) == 2


def test_a_server_that_is_gone_stops_the_run_after_the_replies_it_gave():
    with endpoint(lambda nth, body: completion("x")) as (where, _):
        pass
    replies: list[ChatReply] = []
    requests = [ChatRequest(id=str(i), turns=("q",), max_tokens=5) for i in range(100)]
    with pytest.raises(ServerFailure, match="does not answer any more"):
        ask(where, requests, lambda request, reply: replies.append(reply), patience=QUICK)
    assert 20 <= len(replies) < 100


def test_no_more_requests_than_the_limit_are_under_way():
    with endpoint(lambda nth, body: time.sleep(0.02) or completion("x")) as (where, script):
        asked(where, [ChatRequest(id=str(i), turns=("q",), max_tokens=5) for i in range(24)])
    assert 2 <= script.most_at_once <= QUICK.concurrency


def test_replies_are_handed_out_one_by_one_as_they_finish():
    release = threading.Event()

    def act(nth, body):
        if body["messages"][-1]["content"] == "slow":
            release.wait(5)
        return completion("x")

    order: list[str] = []

    def keep(request: ChatRequest, reply: ChatReply) -> None:
        order.append(request.id)
        release.set()  # the slow one may go only when a faster one is already in our hands

    requests = [ChatRequest(id=name, turns=(name,), max_tokens=5) for name in ("slow", "quick")]
    with endpoint(act) as (where, _):
        ask(where, requests, keep, patience=QUICK)
    assert order == ["quick", "slow"]


def test_the_first_tokens_alternatives_come_along_when_asked_for():
    top = [{"token": "m", "logprob": -0.1, "bytes": None}, {"token": "M", "logprob": -2.3, "bytes": None}]
    logprobs = {"content": [{"token": "m", "logprob": -0.1, "bytes": None, "top_logprobs": top}], "refusal": None}
    with endpoint(lambda nth, body: completion("m", logprobs=logprobs)) as (where, script):
        reply = one(where, top_logprobs=2)
    assert script.bodies[0]["top_logprobs"] == 2
    assert reply.first_token == ((("m", -0.1), ("M", -2.3)),)


def test_the_key_is_in_no_printed_form():
    assert "secret" not in repr(Endpoint(base_url="http://x/v1", model="m", key="secret"))


def test_a_server_that_answers_nothing_but_errors_is_given_up_like_one_that_is_gone():
    requests = [ChatRequest(id=str(i), turns=("q",), max_tokens=5) for i in range(60)]
    replies: list[ChatReply] = []
    with endpoint(lambda nth, body: (500, {})) as (where, _), pytest.raises(ServerFailure, match="500"):
        ask(where, requests, lambda request, reply: replies.append(reply), patience=QUICK)
    assert {reply.kind for reply in replies} == {"failing"}
    assert 20 <= len(replies) < 60


def test_a_reply_that_a_gateway_sends_twice_answers_no_other_question():
    """On a kept connection the second copy would be read as the reply to whatever is asked next."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
                body = json.dumps(completion(f"to {asked}")).encode()
                sent = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((sent.encode() + body) * 2)
                await writer.drain()

    async def run() -> dict[str, ChatReply]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        where = Endpoint(base_url=f"http://localhost:{server.sockets[0].getsockname()[1]}/v1", model="m", key="k")
        replies: dict[str, ChatReply] = {}
        requests = [ChatRequest(id=str(i), turns=(f"question {i}",), max_tokens=5) for i in range(20)]
        async with server, ChatClient(where, QUICK) as client:
            await answer_all(client, requests, lambda asked, reply: replies.__setitem__(asked.id, reply), concurrency=2)
        return replies

    replies = asyncio.run(run())
    assert {name: reply.turns for name, reply in replies.items()} == {str(i): (f"to question {i}",) for i in range(20)}


@pytest.mark.parametrize(
    ("content", "why", "turns", "cut", "thought"),
    [
        ("four", "stop", ("four",), (), 0),
        ("the first point is", "length", ("the first point is",), (1,), 0),
        ("<think>hm</think>\n\nfour", "stop", ("four",), (), 1),
        ([{"type": "thinking", "thinking": []}, {"type": "text", "text": "four"}], "stop", ("four",), (), 0),
        ("", "stop", ("",), (), 0),
        (None, "length", (), (), 0),
        ("", "length", ("",), (1,), 0),  # tokens that show as nothing
        ("<think>still", "length", (), (), 0),
    ],
)
def test_why_an_answer_ended_and_what_was_thought_is_kept(endpoint, completion, content, why, turns, cut, thought):
    said = completion("")
    said["choices"][0] |= {"finish_reason": why, "message": {"role": "assistant", "content": content}}
    server = endpoint(lambda *_: (200, {}, said))
    found = []
    request = ChatRequest(id="1", turns=("?",), max_tokens=5)
    ask(Endpoint(base_url=server.url, model="m", key="k"), [request], lambda _, reply: found.append(reply))
    (reply,) = found
    assert (reply.turns, reply.thought) == (turns, thought)
    assert tuple(n for n, reason in enumerate(reply.finish_reasons, start=1) if reason == CUT) == cut
    assert (reply.failure is None) == bool(turns)
    assert reply.kind is None  # asking again would not help
    if not turns:
        assert "raise max_tokens" in reply.failure
