"""Answers and judgments in fastchat's own files: its loaders read them, and words and values never part."""

import json
from dataclasses import replace

import pytest

from eval.benchmarks import MTBench, MTBenchPairwise
from eval.benchmarks.fastchat.files import answer_rows, file_name, pair_rows, single_rows, write_jsonl
from eval.benchmarks.fastchat.rules import fastchat_common
from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.fastchat.verdict_letter import parse_verdict
from eval.benchmarks.protocol import BenchmarkFiles
from eval.records import Answer, Unscored, Verdict

QUESTION = {"question_id": 81, "category": "writing", "turns": ["one?", "two?"]}
OWN = [Answer(question_id="81", model="org/m", turns=("a", "b {x}\nü"))]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "question.jsonl"
    path.write_text(json.dumps(QUESTION) + "\n")
    return BenchmarkFiles(questions=path)


def singles(questions, *records):
    benchmark = MTBench().load(questions)
    requests = benchmark.plan(OWN).requests
    return single_rows(benchmark.questions, requests, records, model="org_m", judge="j", written=1.5)


def games(questions, *records):
    other = [replace(OWN[0], model="base", turns=("c", "d"))]
    benchmark = MTBenchPairwise().load(questions).against({"base": other})
    requests = benchmark.plan(OWN).requests
    return pair_rows(benchmark.questions, requests, records, model="m", names={"base": "base"}, judge="j", written=1.5)


def rating(value, text, turn=1):
    return Verdict(question_id="81", turn=turn, value=value, judge="j", text=text)


def game(value, text, order):
    return Verdict(question_id="81", turn=1, value=value, judge="j", text=text, opponent="base", order=order)


def test_fastchats_loader_reads_our_answers(tmp_path):
    write_jsonl(tmp_path / "model_answer" / f"{file_name('org/m')}.jsonl", answer_rows(OWN, written=1.5))
    found = fastchat_common().load_model_answers(str(tmp_path / "model_answer"))
    assert found["org_m"][81]["choices"][0]["turns"] == ["a", "b {x}\nü"]
    assert found["org_m"][81]["model_id"] == "org/m"
    assert [
        answer.turns for answer in MTBench().load(_questions(tmp_path)).read_answers(tmp_path / "model_answer")
    ] == [OWN[0].turns]


def _questions(folder):
    (folder / "question.jsonl").write_text(json.dumps(QUESTION) + "\n")
    return BenchmarkFiles(questions=folder / "question.jsonl")


def test_a_question_without_an_answer_has_no_row():
    assert answer_rows([Answer(question_id="81", model="m", turns=(), reason="timed out")], written=0) == []


def test_a_rating_has_a_row_with_the_fields_of_fastchat(questions):
    (row,) = singles(questions, rating(7.0, "Good. [[7]]"))
    assert row == {
        "question_id": 81,
        "model": "org_m",
        "judge": ["j", "single-v1"],
        "user_prompt": "one?\n\na",
        "judgment": "Good. [[7]]",
        "score": 7,
        "turn": 1,
        "tstamp": 1.5,
    }


@pytest.mark.parametrize("text", ["a 7, b 8", "[[7]]", "", "see [3]"])
def test_a_mean_of_several_replies_is_said_by_the_rows_words(questions, text):
    (row,) = singles(questions, rating(22 / 3, text))
    assert parse_rating(row["judgment"]) == row["score"] == 22 / 3
    assert row["judgment"].endswith(text)


def test_what_is_unscored_is_minus_one_or_has_no_row(questions):
    unread = Unscored(question_id="81", turn=1, reason="no rating", judge="j", text="[[72]]")
    silent = Unscored(question_id="81", turn=2, reason="timed out", judge="j", kind="no_reply")
    assert [(row["score"], row["judgment"]) for row in singles(questions, unread, silent)] == [
        (-1, "[[72]]"),
        (-1, "$ERROR$"),
    ]
    assert singles(questions, replace(unread, kind="no_answer"), replace(silent, kind="not_recorded")) == []


def test_a_pair_is_one_row_with_both_games(questions):
    (row,) = games(questions, game(2.0, "[[A]]", 1), game(1.0, "[[A]]", 2))
    assert (row["model_1"], row["model_2"], row["turn"]) == ("m", "base", 1)
    assert (row["g1_winner"], row["g2_winner"]) == ("model_1", "model_2")
    assert (row["g1_user_prompt"], row["g2_user_prompt"]) == ("one?\n\na\n\nc", "one?\n\nc\n\na")
    assert row["judge"] == ["j", "pair-v2"]


def test_a_game_of_several_replies_says_its_winner_and_no_other(questions):
    (row,) = games(questions, game(1.25, "[[A]]", 1), game(1.5, "[[A]] and [[B]]", 2))
    assert (row["g1_winner"], row["g2_winner"]) == ("model_2", "tie")
    assert parse_verdict(row["g1_judgment"], shown_first=True) == 1.0
    assert parse_verdict(row["g2_judgment"], shown_first=False) == 1.5


def test_an_unread_game_is_an_error_and_leaves_the_other_as_it_is(questions):
    blank = Unscored(question_id="81", turn=1, reason="no verdict", judge="j", text="Hm.", opponent="base", order=2)
    (row,) = games(questions, game(2.0, "[[A]]", 1), blank)
    assert (row["g1_winner"], row["g2_winner"], row["g2_judgment"]) == ("model_1", "error", "Hm.")


@pytest.mark.parametrize(
    ("model", "name"),
    [("org/m", "org_m"), ("m-0.5+x", "m-0.5+x"), ("panel:mean of a, b", "panel_mean_of_a_b"), ("/", "_")],
)
def test_names_become_file_names(model, name):
    assert file_name(model) == name
