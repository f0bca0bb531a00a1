"""Ratings counted fastchat's way: every row that is not -1."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.benchmarks.fastchat.means import counted_alike, fastchat_rows
from eval.benchmarks.fastchat.rules import fastchat_means
from eval.records import Question
from eval.scores.intervals import Uncertainty

QUESTIONS = [Question(id="1", category="math", turns=("?", "?")), Question(id="2", category="stem", turns=("?", "?"))]


def rows(*found):
    names = ("question_id", "turn", "score")
    return [{"model": "m", **dict(zip(names, row, strict=True))} for row in found]


def means(found):
    return {row.slice: row for row in fastchat_rows(found, QUESTIONS, Uncertainty())}


def test_repeats_count_twice_failures_not_at_all_and_off_the_scale_as_it_is():
    found = means(rows((1, 1, 4), (1, 1, 8), (1, 2, -1), (2, 1, 72), (2, 2, 6)))
    assert {name: row.value for name, row in found.items()} == {
        "all": (4 + 8 + 72 + 6) / 4,
        "turn1": (4 + 8 + 72) / 3,
        "turn2": 6.0,
        "math": 6.0,
        "stem": 39.0,
    }
    assert (found["all"].n, found["all"].unscored, found["math"].unscored) == (4, 1, 1)
    assert {row.metric for row in found.values()} == {"rating_fastchat"}


def test_nothing_but_failures_is_no_mean():
    assert means(rows((1, 1, -1)))["all"].reason == "nothing was scored"


@pytest.mark.parametrize(
    ("found", "alike"),
    [
        (rows((1, 1, 4), (1, 2, 8)), True),
        (rows((1, 1, 4), (1, 1, 4)), False),  # a repeat, though an equal one
        (rows((1, 1, -1)), False),
        (rows((1, 1, 72)), False),
    ],
)
def test_files_that_both_ways_count_alike_are_known(found, alike):
    assert counted_alike(found) is alike


places = st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.sampled_from([-1, 1, 2.5, 7, 10, 72]))


@settings(deadline=None)  # the first example imports pandas
@given(st.lists(places, min_size=1, max_size=9))
def test_the_means_are_those_that_fastchats_own_tool_prints(tmp_path_factory, found):
    found = [*rows(*found), *rows((1, 1, 5), (2, 2, 5))]  # a turn without any score is no row there
    path = tmp_path_factory.mktemp("judgments") / "judge_single.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    shown = fastchat_means(path)
    ours = means(found)
    for name in ("all", "turn1", "turn2"):
        assert ours[name].value == pytest.approx(shown[name]["m"], abs=1e-12)
