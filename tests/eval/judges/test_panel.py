"""What a panel makes of its members' verdicts."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judges import JudgeRequest, OpenAI, Panel, judge_from
from eval.judging.review import review_request
from eval.records import Place, Unscored, Verdict
from fusion.runtime.configure import Refusal

MEMBERS = {name: OpenAI(model=name) for name in "abc"}


def request(form="rating"):
    return JudgeRequest(
        benchmark="b",
        question_id="1",
        turn=1,
        model="m",
        form=form,
        question="?",
        answers=("a",),
        reference=None,
        messages=({"role": "user", "content": "Rate this."},),
        opponent="o",
        order=2,
    )


def layer(*values):
    """One look of each member; None could not be read."""
    return {
        name: Unscored(question_id="1", turn=1, reason="?", judge=name, text="mumble")
        if value is None
        else Verdict(question_id="1", turn=1, value=value, judge=name, text=f"[[{value}]]")
        for name, value in zip("abc", values, strict=True)
    }


def verdict(*layers, form="rating", **settings):
    panel = Panel(members=MEMBERS, layers=len(layers), **settings)
    return panel.aggregate(request(form), [layer(*values) for values in layers])


def test_the_mean_leaves_out_what_was_not_read_and_never_counts_it_as_nothing():
    assert verdict((4, 9, None)).value == pytest.approx(6.5)
    assert verdict((4, 9, None), (6, None, 8)).value == pytest.approx((4 + 9 + 6 + 8) / 4)


def test_a_majority_of_ratings_is_their_median_and_of_preferences_the_side_with_more_votes():
    assert verdict((2, 9, 8), rule="majority").value == 8
    sides = {"form": "preference_token", "rule": "majority"}
    assert verdict((1.1, 1.4, 2.0), **sides).value == 1
    assert verdict((1.6, 1.5, 1.5), **sides).value == 2
    assert verdict((1.6, 1.2, None), **sides).value == 1.5


def test_the_quorum_counts_members_in_the_last_layer():
    assert isinstance(verdict((4, None, None)), Unscored)
    assert isinstance(verdict((4, 5, 6), (4, None, None)), Unscored)
    assert verdict((4, None, None), quorum=1).value == 4
    assert isinstance(verdict((4, 5, None), quorum=3), Unscored)


def test_a_verdict_keeps_its_place_and_says_who_said_what():
    found = verdict((4, 9, None))
    assert found.place == Place(question_id="1", turn=1, opponent="o", order=2)
    assert found.text == "a 4, b 9, c unscored (?)"
    assert found.judge == "panel:mean of a, b, c"


@given(st.lists(st.integers(1, 10), min_size=3, max_size=3))
def test_rules_do_not_depend_on_the_order_of_the_members(values):
    for rule, expected in (("mean", statistics.fmean(values)), ("majority", statistics.median(values))):
        assert verdict(tuple(values), rule=rule).value == pytest.approx(expected)
        assert verdict(tuple(reversed(values)), rule=rule).value == pytest.approx(expected)


def test_a_member_without_words_of_its_own_reads_the_others_in_the_question_itself():
    silent = {**layer(4, 9, 2), "c": Unscored(question_id="1", turn=1, reason="?", judge="c", text="")}
    (message,) = review_request(request(), silent, "c").messages
    assert message["content"].startswith("Rate this.\n\nSeveral reviewers")
    assert "[[4]]" in message["content"]
    nobody = {name: Unscored(question_id="1", turn=1, reason="?", judge=name) for name in "abc"}
    assert review_request(request(), nobody, "a") is None


def test_members_are_typed_like_judges_of_their_own():
    given_ = {"a": {"name": "reference"}, "b": {"name": "served", "checkpoint": "d", "serve": {"name": "vllm"}}}
    panel = judge_from({"name": "panel", "members": given_}, at="judge")
    assert panel.members["b"].serve.dtype == "auto"
    for wrong, message in (
        ({"a": {"name": "panel"}, "b": {"name": "reference"}}, r"judge\.members\.a\.name is 'panel'"),
        ({"a": {"name": "openai"}, "b": {"name": "reference"}}, r"judge\.members\.a\.model"),
        ({"a": {"name": "reference"}}, "a panel of 1"),
        (None, "expected judges by name"),
        ({"a": "gpt", "b": {"name": "reference"}}, "expected a judge's settings"),
    ):
        with pytest.raises(Refusal, match=message):
            judge_from({"name": "panel", "members": wrong}, at="judge")
    with pytest.raises(Refusal, match="member a cannot read reviews"):
        judge_from({"name": "panel", "layers": 2, "members": given_}, at="judge")
    with pytest.raises(Refusal, match="quorum is 3"):
        judge_from({"name": "panel", "quorum": 3, "members": given_}, at="judge")
