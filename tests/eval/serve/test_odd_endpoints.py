"""Endpoints under test with ways of their own: how long to wait, what they withhold, how they want to be asked."""

import datetime
import email.utils
import time

import pytest

from eval.serve.chat_client import ChatReply, ChatRequest, ask
from eval.serve.endpoint_client import Patience, retry_after
from eval.serve.server import Endpoint

SOON = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": " 3 "}, 3),
        ({"retry-after": "20s"}, 20),
        ({"retry-after": "1500ms"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_in_whatever_unit(headers, seconds):
    assert retry_after(headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "date",
    [
        email.utils.format_datetime(SOON, usegmt=True),
        SOON.strftime("%a %b %d %H:%M:%S %Y"),  # of C, without a zone: UTC
        SOON.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        SOON.astimezone(datetime.timezone(datetime.timedelta(hours=5))).strftime("%a, %d %b %Y %H:%M:%S %z"),
    ],
    ids=["HTTP", "C", "RFC 850", "another zone"],  # the dates themselves differ between two workers that collect
)
def test_how_long_to_wait_as_a_date(date, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after({"retry-after": date}) == pytest.approx(SOON.timestamp() - time.time(), abs=2)
    finally:
        monkeypatch.undo()
        time.tzset()


def replied(url: str, **settings: object) -> ChatReply:
    found: list[ChatReply] = []
    request = ChatRequest(id="q", turns=("seven", "nine"), max_tokens=5, **settings)
    where = Endpoint(base_url=url, model="m", key="k")
    ask(where, [request], lambda _, reply: found.append(reply), patience=Patience(attempts=1))
    return found[0]


def test_an_answer_that_is_withheld_is_none_and_not_asked_again(endpoint, completion):
    body = completion("")
    body["choices"][0]["finish_reason"] = "content_filter"
    server = endpoint(lambda *_: (200, {}, body))
    reply = replied(server.url)
    assert (reply.turns, reply.kind) == ((), "refused")
    assert "withheld" in reply.failure
    assert len(server.asked) == 1


def test_a_model_under_test_is_asked_as_its_endpoint_wishes_at_once(loopback, completion):
    said = {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model."}}
    asked: list[bool] = []

    def react(path, key, body):
        asked.append("max_tokens" in body)
        return (400, {}, said) if asked[-1] else (200, {}, completion("fine"))

    reply = replied(f"{loopback(react)}/v1")
    assert (reply.turns, reply.failure) == (("fine", "fine"), None)
    assert asked == [True, False, False]  # once as others take it
