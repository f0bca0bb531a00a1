"""Published verdicts replayed: only for the answer they were given on, one per turn."""

import json

import pytest

from eval.errors import JudgeFailure
from eval.judges import JudgeRequest, Recorded
from fusion.runtime.configure import Refusal


def request(
    *answers: str, question_id: str = "81", turn: int = 1, model: str = "m", form: str = "rating", switched=False
):
    return JudgeRequest(
        benchmark="x",
        question_id=question_id,
        turn=turn,
        model=model,
        form=form,
        question="say hi",
        answers=answers,
        reference=None,
        messages=(),
        switched=switched,
    )


def judgment(score: float, *, answer: str = "hi", model: str = "m", turn: int = 1):
    return {
        "question_id": 81,
        "turn": turn,
        "model": model,
        "judgment": f"[[{score}]]",
        "score": score,
        "user_prompt": f"Answer: {answer}.",
    }


def replay(tmp_path, rows, *requests, model=None):
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replies = []
    Recorded(file=str(path), model=model).judge(requests, lambda _, reply: replies.append(reply))
    return replies


def test_the_last_scored_judgment_of_a_turn_counts(tmp_path):
    (reply,) = replay(tmp_path, [judgment(4), judgment(7), judgment(-1)], request("hi"))
    assert (reply.text, reply.value) == ("[[7]]", 7.0)


def test_a_turn_that_was_never_scored_keeps_its_words_and_the_files_mark(tmp_path):
    (reply,) = replay(tmp_path, [{**judgment(-1), "judgment": "$ERROR$"}], request("hi"))
    assert (reply.text, reply.value, reply.failure) == ("$ERROR$", -1.0, None)


def test_what_the_file_does_not_hold_is_missing_with_the_reason(tmp_path):
    rows = [judgment(7), judgment(8, turn=2)]
    absent, other, held = replay(tmp_path, rows, request("hi", question_id="82"), request("bye"), request("hi", turn=2))
    assert absent.missing
    assert "no verdict on this turn" in absent.failure
    assert other.missing
    assert "another answer" in other.failure
    assert held.value == 8.0


def test_a_model_under_another_name_is_known_by_its_answers(tmp_path):
    rows = [judgment(3, model="a", answer="no"), judgment(9, model="b", answer="hi")]
    (reply,) = replay(tmp_path, rows, request("hi", model="my-copy"))
    assert reply.value == 9.0
    with pytest.raises(JudgeFailure, match="judges a, b, not my-copy: set judge.model"):
        replay(tmp_path, rows, request("something else", model="my-copy"))
    (reply,) = replay(tmp_path, rows, request("something else", model="my-copy"), model="a")
    assert "another answer" in reply.failure


def test_annotations_are_matched_by_instruction_and_both_outputs(tmp_path):
    row = {"instruction": "say hi", "output_1": "hello", "output_2": "hi", "preference": 1.25}
    shown, switched, other_own, other_baseline = replay(
        tmp_path,
        [row],
        request("hello", "hi", form="preference_token"),
        request("hi", "hello", form="preference_token", switched=True),
        request("hello", "hey", form="preference_token"),
        request("good day", "hi", form="preference_token"),
    )
    assert shown.value == switched.value == 1.25
    assert "another answer" in other_own.failure
    assert "another baseline" in other_baseline.failure
    (nothing,) = replay(tmp_path, [{**row, "preference": None}], request("hello", "hi", form="preference_token"))
    assert (nothing.value, nothing.failure) == (None, None)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(JudgeFailure, match="neither judgments"):
        replay(tmp_path, [{"question_id": 81}], request("hi"))
    with pytest.raises(JudgeFailure, match="holds ratings, which x does not use"):
        replay(tmp_path, [judgment(7)], request("a", "b", form="preference_token"))
    with pytest.raises(Refusal, match="row 1 has no 'score'"):
        replay(tmp_path, [{"question_id": 81, "turn": 1, "model": "m", "judgment": ""}], request("hi"))
    with pytest.raises(Refusal, match="there is no file"):
        Recorded(file=str(tmp_path / "none.json")).judge([], lambda *_: None)


@pytest.mark.parametrize(
    "retyped",
    [{"question_id": 81.0}, {"question_id": "81"}, {"turn": "1"}, {"turn": 1.0}, {"score": "7"}, {"score": 7}],
)
def test_numbers_that_a_table_retyped_are_the_same_numbers(tmp_path, retyped):
    (reply,) = replay(tmp_path, [{**judgment(7), **retyped}], request("hi"))
    assert (reply.value, reply.missing) == (7.0, False)


def test_words_that_are_null_are_no_words(tmp_path):
    (reply,) = replay(tmp_path, [{**judgment(7), "judgment": None}], request("hi"))
    assert (reply.text, reply.value) == ("", 7.0)
    (reply,) = replay(tmp_path, [{**judgment(7), "user_prompt": None}], request("hi"))
    assert "another answer" in reply.failure


@pytest.mark.parametrize("completion", [{"logprobs": [1]}, {"logprobs": {"content": [3]}}, [["x"]], 7, {"text": "m"}])
def test_a_raw_completion_of_another_shape_leaves_the_preference(tmp_path, completion):
    row = {"instruction": "say hi", "output_1": "a", "output_2": "b", "preference": 2, "raw_completion": completion}
    (reply,) = replay(tmp_path, [row], request("a", "b", form="preference_token"))
    assert (reply.value, reply.top_logprobs) == (2.0, ())


@pytest.mark.parametrize("preference", [True, [2], "nan", "model_2"])
def test_a_preference_that_is_no_number_is_none(tmp_path, preference):
    row = {"instruction": "say hi", "output_1": "a", "output_2": "b", "preference": preference}
    (reply,) = replay(tmp_path, [row], request("a", "b", form="preference_token"))
    assert reply.value is None
    with pytest.raises(Refusal, match="row 1: instruction is .*expected text"):
        replay(tmp_path, [{**row, "instruction": ["say hi"]}], request("a", "b", form="preference_token"))


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), "nan"])
def test_a_score_that_is_none_has_the_mark_of_a_failed_one(tmp_path, score):
    (reply,) = replay(tmp_path, [{**judgment(7), "score": score}], request("hi"))
    assert reply.value == -1.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"score": "good"}, "score is 'good'"),
        ({"turn": "first"}, "turn is 'first'"),
        ({"question_id": None}, "None is no"),
        ({"score": True}, "score is True"),
        ({"score": "7/10"}, "score is '7/10'"),
        ({"score": [7]}, r"score is \[7\]"),
        ({"score": [[7]]}, "score is"),
        ({"question_id": ["81"]}, "question_id is"),
        ({"judgment": [{"type": "text", "text": "[[7]]"}]}, "judgment is .*expected text"),
        ({"user_prompt": {"text": "hi"}}, "user_prompt is .*expected text"),
        ({"g1_winner": "model_A"}, "g1_winner is 'model_A': expected model_1, model_2, tie, error"),
    ],
)
def test_a_value_that_is_no_number_is_refused_with_its_row(tmp_path, wrong, said):
    with pytest.raises(Refusal, match=f"row 2: .*{said}"):
        replay(tmp_path, [judgment(7), {**judgment(7), **wrong}], request("hi"))
