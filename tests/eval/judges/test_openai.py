"""A judge behind an endpoint, against a scripted server on loopback: retries, refusals, order of writing."""

import email.utils
import socket
import time

import pytest

from eval.errors import JudgeFailure
from eval.judges import JudgeRequest, OpenAI
from fusion.runtime.configure import Refusal, choose


def requests(count, **fields):
    return [
        JudgeRequest(
            benchmark="mt_bench",
            question_id=str(i),
            turn=1,
            model="m",
            form="rating",
            question="?",
            answers=("a",),
            reference=None,
            messages=({"role": "user", "content": f"question {i}"},),
            **fields,
        )
        for i in range(count)
    ]


def ask(judge, asked):
    replies = {}
    judge.judge(asked, lambda request, reply: replies.setdefault(request.question_id, reply))
    return replies


def test_text_probabilities_and_cost_come_back(endpoint, completion, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", "secret-7")
    top = [{"token": "m", "logprob": -0.1, "bytes": None}, {"token": "M", "logprob": -2.5, "bytes": None}]
    server = endpoint(lambda *_: (200, {}, completion("m", top=top)))
    judge = server.judge(key_variable="MY_JUDGE_KEY", extra={"seed": 3})
    reply = ask(judge, requests(1, temperature=1.0, max_tokens=1, top_logprobs=5))["0"]
    assert (reply.text, reply.top_logprobs) == ("m", (("m", -0.1), ("M", -2.5)))
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 3)
    sent = server.asked[0]
    assert sent["key"] == "Bearer secret-7"
    expected = {"model": "judge", "temperature": 1.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 5, "seed": 3}
    assert {name: sent[name] for name in expected} == expected


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0.01"}, {"error": {"message": "slow down"}}),
        (500, {}, {"error": {"message": "oops"}}),
        (503, {}, b""),
        (200, {}, b'{"choices": [{"mess'),
        (200, {}, {"id": "x", "choices": []}),
        None,
    ],
    ids=["rate limit", "server error", "unavailable", "truncated JSON", "no choices", "hung up"],
)
def test_passing_faults_are_tried_again(endpoint, fault):
    server = endpoint(lambda _, before: fault if before < 2 else "[[7]]")
    assert ask(server.judge(), requests(1))["0"].text == "[[7]]"
    assert len(server.asked) == 3


def test_the_endpoints_own_waiting_time_is_kept_up_to_the_limit(endpoint):
    limited = (429, {"Retry-After": "0.3"}, {"error": {"message": "slow down"}})
    server = endpoint(lambda _, before: limited if before == 0 else "[[7]]")
    started = time.monotonic()
    ask(server.judge(longest_wait_seconds=5.0), requests(1))
    assert 0.3 <= time.monotonic() - started < 3


def test_a_waiting_time_given_as_a_date_is_kept(endpoint):
    def script(_, before):
        # An HTTP date has whole seconds: 2 seconds ahead is at least 1.
        later = {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}
        return (429, later, {"error": {"message": "slow down"}}) if before == 0 else "[[7]]"

    started = time.monotonic()
    assert ask(endpoint(script).judge(longest_wait_seconds=5.0), requests(1))["0"].text == "[[7]]"
    assert 1.0 <= time.monotonic() - started < 4


def test_a_judge_that_gives_nothing_but_errors_is_given_up(endpoint):
    server = endpoint(lambda *_: (500, {}, {"error": {"message": "oops"}}))
    with pytest.raises(JudgeFailure, match="does not answer .*oops"):
        ask(server.judge(attempts=1, concurrency=1), requests(60))
    assert len(server.asked) == 20


def test_a_question_that_stays_unanswered_is_reported_and_its_neighbours_go_on(endpoint):
    def script(question, _):
        return (500, {}, {"error": {"message": "oops"}}) if question == "question 3" else "[[5]]"

    replies = ask(endpoint(script).judge(attempts=2), requests(8))
    assert "oops" in replies.pop("3").failure
    assert {reply.text for reply in replies.values()} == {"[[5]]"}
    assert len(replies) == 7


def test_a_request_the_endpoint_rejects_is_not_repeated_now_or_later(endpoint):
    server = endpoint(lambda *_: (400, {}, {"error": {"message": "too long"}}))
    reply = ask(server.judge(), requests(1))["0"]
    assert "too long" in reply.failure
    assert reply.rejected
    assert len(server.asked) == 1


def test_a_spent_account_stops_at_once(endpoint):
    spent = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    server = endpoint(lambda *_: (429, {}, spent))
    with pytest.raises(JudgeFailure, match="exceeded your current quota"):
        ask(server.judge(concurrency=1), requests(3))
    assert len(server.asked) == 1


def test_one_question_that_always_fails_does_not_block_the_end(endpoint):
    server = endpoint(lambda *_: (500, {}, {"error": {"message": "oops"}}))
    reply = ask(server.judge(attempts=2), requests(1))["0"]
    assert "oops" in reply.failure
    assert not reply.rejected


def test_a_wrong_key_stops_at_once_and_is_not_shown(endpoint, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", "secret-7")
    server = endpoint(lambda *_: (401, {}, {"error": {"message": "bad key secret-7"}}))
    with pytest.raises(JudgeFailure, match=r"refuses .*bad key.*MY_JUDGE_KEY") as failure:
        ask(server.judge(key_variable="MY_JUDGE_KEY", concurrency=1), requests(5))
    assert "secret-7" not in str(failure.value)
    assert len(server.asked) == 1


def test_nobody_at_the_address_is_a_failure_of_the_judge_not_of_the_model(endpoint):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(JudgeFailure, match="does not answer"):
        ask(endpoint(lambda *_: "x").judge(attempts=2, base_url=nobody), requests(3))


def test_a_reply_is_handed_over_before_its_place_asks_again(endpoint):
    server = endpoint(lambda *_: "[[5]]")
    asked_when_handed = []
    server.judge(concurrency=1).judge(requests(5), lambda *_: asked_when_handed.append(len(server.asked)))
    assert asked_when_handed == [1, 2, 3, 4, 5]


def test_no_key_and_no_prompt_are_refused_before_anything_is_asked(endpoint, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    server = endpoint(lambda *_: "x")
    with pytest.raises(JudgeFailure, match="set the environment variable NO_SUCH_KEY"):
        ask(server.judge(key_variable="NO_SUCH_KEY"), requests(1))
    bare = [JudgeRequest(**{**vars(requests(1)[0]), "messages": ()})]
    with pytest.raises(JudgeFailure, match="needs mt_bench's published prompts"):
        ask(server.judge(), bare)
    assert server.asked == []
    assert ask(server.judge(key_variable="NO_SUCH_KEY"), []) == {}


def test_settings_out_of_range_are_refused():
    with pytest.raises(Refusal, match="concurrency 0"):
        choose({"openai": OpenAI}, {"name": "openai", "model": "j", "concurrency": 0}, at="judge")


THOUGHT = "<think>[[2]]?</think>[[9]]"
PARTS = [{"type": "thinking", "thinking": [{"text": "[[2]]?"}]}, {"type": "text", "text": "[[9]]"}]


@pytest.mark.parametrize("content", [THOUGHT, PARTS, "in the prompt it began: [[2]]</think> [[9]]"])
def test_what_a_judge_thinks_first_is_not_its_verdict(endpoint, completion, content):
    said = completion("")
    said["choices"][0]["message"]["content"] = content
    server = endpoint(lambda *_: (200, {}, said))
    assert ask(server.judge(), requests(1))["0"].text.strip() == "[[9]]"


def test_a_field_that_extra_sets_to_null_is_left_out(endpoint):
    server = endpoint(lambda *_: "[[7]]")
    ask(server.judge(extra={"max_tokens": None, "max_completion_tokens": 9}), requests(1))
    assert "max_tokens" not in server.asked[0] and server.asked[0]["max_completion_tokens"] == 9


def test_an_endpoint_that_wants_another_name_gets_it_from_then_on(endpoint):
    no = (400, {}, {"error": {"message": "Use 'max_completion_tokens' instead."}})

    def script(_, before):
        return no if "max_tokens" in server.asked[-1] else "[[7]]"

    server = endpoint(script)
    replies = ask(server.judge(concurrency=1), requests(4))
    assert [reply.text for reply in replies.values()] == ["[[7]]"] * 4
    assert len(server.asked) == 5  # the first was asked again


def test_when_all_are_refused_alike_and_none_is_answered_the_rest_is_not_asked(endpoint):
    server = endpoint(lambda *_: (400, {}, {"error": {"message": "unknown field temperature"}}))
    with pytest.raises(JudgeFailure, match=r"refused 5 questions alike .*unknown field temperature.*judge\.extra"):
        ask(server.judge(concurrency=1), requests(60))
    assert len(server.asked) == 5


def test_refusals_beside_answers_stay_those_questions_own(endpoint):
    no = (400, {}, {"error": {"message": "filtered"}})
    server = endpoint(lambda question, _: "[[7]]" if question == "question 0" else no)
    replies = ask(server.judge(concurrency=1), requests(9))
    assert [reply.rejected for reply in replies.values()] == [False] + [True] * 8
