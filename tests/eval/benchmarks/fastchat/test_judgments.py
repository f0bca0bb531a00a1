"""fastchat's judgment files: which of several rows counts, and whose game a pair's row is."""

import json

import pytest

from eval.benchmarks.fastchat.judgments import shows
from eval.errors import JudgeFailure
from eval.judges import JudgeRequest, Recorded
from fusion.runtime.configure import Refusal


def request(*answers, model="m", opponent="", order=0, form="rating", prompt=None):
    return JudgeRequest(
        benchmark="x",
        question_id="81",
        turn=1,
        model=model,
        form=form,
        question="?",
        answers=answers,
        reference=None,
        messages=() if prompt is None else ({"role": "user", "content": prompt},),
        opponent=opponent,
        order=order,
    )


def single(score, prompt="hi", turn=1):
    return {
        "question_id": 81,
        "turn": turn,
        "model": "m",
        "judgment": f"[[{score}]]",
        "score": score,
        "user_prompt": prompt,
    }


def pair(first, second, *, g1, g2, shown=("hi", "ho")):
    return {
        "question_id": 81,
        "turn": 1,
        "model_1": first,
        "model_2": second,
        "g1_winner": g1,
        "g2_winner": g2,
        "g1_user_prompt": f"{shown[0]} then {shown[1]}",
        "g2_user_prompt": f"{shown[1]} then {shown[0]}",
        "g1_judgment": "game 1",
        "g2_judgment": "game 2",
    }


def replay(tmp_path, rows, *requests, model=None):
    path = tmp_path / "judgments.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replies = []
    Recorded(file=str(path), model=model).judge(requests, lambda _, reply: replies.append(reply))
    return replies


def test_a_row_on_this_very_answer_counts_though_a_later_one_is_on_another(tmp_path):
    rows = [single(4, "hi"), single(9, "bye")]
    (reply,) = replay(tmp_path, rows, request("hi"))
    assert reply.value == 4.0


def test_the_row_with_our_whole_prompt_comes_before_others_that_show_the_answer(tmp_path):
    rows = [single(4, "the prompt: hi"), single(9, "another prompt: hi")]
    (reply,) = replay(tmp_path, rows, request("hi", prompt="the prompt: hi"))
    assert reply.value == 4.0
    (reply,) = replay(tmp_path, rows, request("hi", prompt="a third: hi"))
    assert reply.value == 9.0


def test_an_answer_inside_a_longer_one_is_another_answer():
    prompt = "[Question]\n?\n\n[The Start of Assistant's Answer]\nThe output:\n{x}\n[The End of Assistant's Answer]"
    assert shows(prompt, "The output:\n{x}")
    assert not shows(prompt, "{x}")
    turns = (
        "### User:\n?\n\n### Assistant A:\none\n\n### User:\nand?\n\n### Assistant A:\ntwo\n\n<|The End of Assistant A"
    )
    assert shows(turns, "one")
    assert shows(turns, "two")
    assert not shows(turns, "on")
    assert shows("a prompt of another layout: hi!", "hi")


@pytest.mark.parametrize(
    ("model", "opponent", "order", "answers", "text", "value"),
    [
        # a is model_1 and wins both games; game 1 shows it first.
        ("a", "b", 1, ("hi", "ho"), "game 1", 2.0),
        ("a", "b", 2, ("ho", "hi"), "game 2", 2.0),
        ("b", "a", 1, ("ho", "hi"), "game 2", 1.0),
        ("b", "a", 2, ("hi", "ho"), "game 1", 1.0),
    ],
)
def test_a_pairs_row_answers_both_models_in_both_orders(tmp_path, model, opponent, order, answers, text, value):
    asked = request(*answers, model=model, opponent=opponent, order=order, form="verdict_letter")
    (reply,) = replay(tmp_path, [pair("a", "b", g1="model_1", g2="model_1")], asked)
    assert (reply.text, reply.value) == (text, value)


def test_the_last_pair_without_an_error_counts_and_ties_are_ties(tmp_path):
    asked = request("hi", "ho", model="a", opponent="b", order=1, form="verdict_letter")
    rows = [pair("a", "b", g1="model_2", g2="tie"), pair("a", "b", g1="tie", g2="model_1")]
    rows.append(pair("a", "b", g1="model_1", g2="error"))
    assert replay(tmp_path, rows, asked)[0].value == 1.5
    assert replay(tmp_path, rows[2:], asked)[0].value == 2.0
    assert replay(tmp_path, [pair("a", "b", g1="error", g2="tie")], asked)[0].value == -1.0


def test_what_a_pair_file_does_not_hold_is_missing_or_refused(tmp_path):
    rows = [pair("a", "b", g1="tie", g2="tie")]
    (reply,) = replay(tmp_path, rows, request("hey", "ho", model="a", opponent="b", order=1, form="verdict_letter"))
    assert reply.missing
    assert "another answer" in reply.failure
    with pytest.raises(JudgeFailure, match="compares a and b, not c and b: .* judge.model"):
        replay(tmp_path, rows, request("hi", "ho", model="c", opponent="b", order=1, form="verdict_letter"))
    named = request("hi", "ho", model="c", opponent="b", order=1, form="verdict_letter")
    assert replay(tmp_path, rows, named, model="a")[0].value == 1.5
    with pytest.raises(JudgeFailure, match="holds verdicts on pairs, which x does not use"):
        replay(tmp_path, rows, request("hi"))
    with pytest.raises(Refusal, match="row 1 has no 'g2_winner'"):
        replay(tmp_path, [{key: value for key, value in rows[0].items() if key != "g2_winner"}], named)


def test_a_model_with_nothing_to_ask_needs_no_row(tmp_path):
    assert replay(tmp_path, [single(7)]) == []
