"""The judge that needs no model: its rating, and that it speaks in the benchmarks' own forms."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.pairwise_preference import annotator
from eval.errors import JudgeFailure
from eval.judges import JudgeRequest
from eval.judges.reference import Reference, rating, reply_by_reference
from fusion.runtime.edit_distance import edit_distance

WORDS = st.text(alphabet="abc ", max_size=12)


def plain_edit_distance(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def request(form: str, *answers: str, reference: str | None = "seven") -> JudgeRequest:
    return JudgeRequest(
        benchmark="x",
        question_id="1",
        turn=1,
        model="m",
        form=form,
        question="3+4?",
        answers=answers,
        reference=reference,
        messages=(),
    )


@settings(deadline=None)  # the first example waits for the compiler
@given(WORDS, WORDS)
@example("ab" * 40, "ba" * 50)  # longer than a machine word
@example("a\ud800", "b")  # a lone surrogate
def test_the_bit_parallel_distance_equals_the_plain_table(first, second):
    assert edit_distance(first, second) == plain_edit_distance(first, second)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("seven", 10),
        ("  seven\n", 10),
        ("", 1),
        (" \n", 1),
        ("xxxxx", 1),  # similarity 0
        ("sevem", 7),  # 1 of 5 differs: 1 + floor(8 * 0.8)
        ("Seven", 7),  # case counts: some questions are about it
        ("seven!", 7),  # 1 + floor(8 * 5/6)
        ("seven" + "x" * 95, 1),  # a right beginning of a long ramble: 1 + floor(8 * 0.05)
    ],
)
def test_ratings_by_hand(answer, expected):
    assert rating(answer, "seven") == expected


@settings(deadline=None)  # the first example waits for the compiler
@given(WORDS, WORDS)
def test_only_the_known_answer_is_rated_ten(answer, reference):
    found = rating(answer, reference)
    assert 1 <= found <= 10
    assert (found == 10) == (answer.split() == reference.split())


@pytest.mark.parametrize(
    ("answer", "ratings"),
    [("seven", (10, 10, 10)), ("it is seven", (4, 1, 10)), ("sevem", (7, 1, 7)), ("", (1, 1, 1))],
)
def test_credit_says_what_an_answer_gets_that_is_not_the_known_one(answer, ratings):
    """By hand: of "it is seven" 5 of 11 characters stay, 1 + 8 * 5 // 11 = 4; of "sevem" 4 of 5, 1 + 8 * 4 // 5 = 7."""
    assert tuple(rating(answer, "seven", credit) for credit in ("edit", "exact", "contains")) == ratings


def test_a_strict_judge_goes_by_another_name():
    found = []
    strict = Reference(credit="exact")
    strict.judge([request("rating", "sevem")], lambda _, reply: found.append(reply.text))
    assert found == ["Rating: [[1]]"]
    assert strict.label != Reference().label


def test_a_rating_goes_through_the_benchmarks_own_parser():
    assert parse_rating(reply_by_reference(request("rating", "sevem")).text) == 7.0


@pytest.mark.parametrize(
    ("first", "second", "preference"),
    [("seven", "six", 1.0), ("six", "seven", 2.0), ("six", "six", 1.5), ("", "x", 1.5)],
)
def test_a_preference_goes_through_the_packages_own_parser(first, second, preference):
    reply = reply_by_reference(request("preference_token", first, second))
    asked = annotator("weighted_alpaca_eval_gpt4_turbo")
    assert asked.preference(reply, switched=False) == preference
    assert asked.preference(reply, switched=True) == 3 - preference


def test_a_question_without_a_known_answer_has_no_verdict():
    reply = reply_by_reference(request("rating", "seven", reference=None))
    assert reply.missing
    assert "no known answer" in (reply.failure or "")


def test_a_form_that_cannot_say_draw_is_refused():
    with pytest.raises(JudgeFailure, match="cannot say 'draw'"):
        reply_by_reference(request("ranked_models", "six", "six"))
