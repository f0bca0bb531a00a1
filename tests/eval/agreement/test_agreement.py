"""Agreement between raters whose votes lie in the usual files."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.agreement.table import agreement_rows, as_markdown
from eval.agreement.votes import Votes, read_votes
from eval.records import Unscored, Verdict, write_records
from eval.scores.intervals import Uncertainty
from fusion.runtime.configure import Refusal

ROOT = Path(__file__).parents[3]
FEW = Uncertainty()


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def human(question, winner, *, a="x", b="y", judge="expert_1", turn=1):
    return {"question_id": question, "model_a": a, "model_b": b, "winner": winner, "judge": judge, "turn": turn}


def pair(question, one, two, *, turn=1):
    names = {"model_1": "x", "model_2": "y", "judge": ["gpt-4", "pair-v2"], "g1_user_prompt": "p"}
    return {"question_id": question, "turn": turn, "g1_winner": one, "g2_winner": two, **names}


def single(question, score, *, prompt="p", model="x"):
    return {"question_id": question, "turn": 1, "model": model, "judgment": "", "score": score, "user_prompt": prompt}


def found(rows, first, second):
    return {row.statistic: row for row in rows if (row.first, row.second) == (first, second)}


def test_people_and_a_pairwise_judge_meet_whichever_model_is_named_first(tmp_path):
    people = lines(
        tmp_path / "human.jsonl",
        [
            human(81, "model_a"),
            human(81, "model_b", a="y", b="x", judge="expert_2"),  # x again
            human(82, "tie"),
            human(83, "model_b"),
        ],
    )
    judge = lines(
        tmp_path / "pair.jsonl",
        [
            pair(81, "model_1", "model_1"),
            pair(82, "model_1", "model_2"),  # the orders disagree: a tie
            pair(83, "model_1", "model_1"),
            pair(84, "error", "model_1"),  # no vote
        ],
    )
    raters = [read_votes(path, questions={}) for path in (people, judge)]
    rows = agreement_rows(raters, FEW)
    both = found(rows, "human.jsonl", "pair.jsonl")
    # Pairs of votes: 81 twice alike, 82 alike, 83 apart.
    assert both["percent_agreement"].found.value == pytest.approx(3 / 4)
    assert (both["percent_agreement"].found.n, both["percent_agreement"].items) == (4, 3)
    assert both["percent_agreement_no_ties"].found.value == pytest.approx(2 / 3)
    own = found(rows, "human.jsonl", "human.jsonl")
    assert (own["percent_agreement"].found.value, own["percent_agreement"].found.n) == (1.0, 1)
    assert found(rows, "pair.jsonl", "pair.jsonl") == {}
    assert "| human.jsonl | pair.jsonl | 3 | 4 | 0.750" in as_markdown(rows, FEW)


def test_our_verdicts_meet_the_only_model_that_a_judgment_file_names(tmp_path):
    published = lines(tmp_path / "gpt-4.jsonl", [single(81, 7), single(82, -1), single(83, 9), single(84, 2)])
    ours = tmp_path / "verdicts.jsonl"
    write_records(
        ours,
        [
            Verdict(question_id="81", turn=1, value=7.0, judge="local", text=""),
            Verdict(question_id="82", turn=1, value=7.0, judge="local", text=""),
            Unscored(question_id="83", turn=1, reason="?", judge="local"),
            Verdict(question_id="84", turn=1, value=4.0, judge="local", text=""),
        ],
    )
    printed = command(f"verdicts=[{published},{ours}]", f"out={tmp_path / 'out'}")
    assert printed.returncode == 0, printed.stderr
    rows = list(csv.DictReader((tmp_path / "out/agreement.csv").read_text().splitlines()))
    assert {row["statistic"]: (row["value"], row["n"]) for row in rows}["percent_agreement"] == ("0.5", "2")
    assert {row["second"] for row in rows} == {f"{tmp_path.name}/verdicts.jsonl (local)"}


def test_several_models_and_a_nameless_file_need_a_name(tmp_path):
    published = lines(tmp_path / "gpt-4.jsonl", [single(81, 7), single(81, 9, model="z")])
    write_records(tmp_path / "v.jsonl", [Verdict(question_id="81", turn=1, value=9.0, judge="local", text="")])
    arguments = f"verdicts=[{published},{tmp_path / 'v.jsonl'}]", f"out={tmp_path / 'out'}"
    refused = command(*arguments)
    assert refused.returncode == 2
    assert "name x, z: set judged=NAME" in refused.stderr
    command(*arguments, "judged=z")
    rows = list(csv.DictReader((tmp_path / "out/agreement.csv").read_text().splitlines()))
    assert rows[0]["value"] == "1.0"


def test_a_nameless_preference_is_for_the_model_against_its_opponent():
    judged = Votes(rater="pair", kind="preference")
    judged.add("81", 1, ("x", "y"), 1.0)  # x is better
    judged.add("81", 1, ("a", "x"), 1.0)  # a is better
    assert judged.of("x").by_item == {("81", 1, ("y",)): [2.0], ("81", 1, ("a",)): [1.0]}


def test_votes_on_answers_that_were_replaced_do_not_count(tmp_path):
    path = lines(tmp_path / "j.jsonl", [single(81, 3, prompt="old"), single(81, 8), single(81, 9)])
    votes = read_votes(path, questions={})
    assert votes.by_item == {("81", 1, ("x",)): [8.0, 9.0]}
    assert votes.replaced == 1


def test_annotations_know_their_instruction_by_its_number(tmp_path):
    rows = [
        {"instruction": "a", "generator_1": "base", "generator_2": "m", "preference": 1.9},
        {"instruction": "b", "generator_1": "base", "generator_2": "m", "preference": 0},
        {"instruction": "c", "generator_1": "base", "generator_2": "m", "preference": None},
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    votes = read_votes(tmp_path / "annotations.json", questions={"a": "0", "b": "1", "c": "2"})
    assert votes.by_item == {("0", 1, ("base", "m")): [1.9], ("1", 1, ("base", "m")): [1.5]}


def test_three_raters_have_one_kappa_over_the_items_that_all_of_them_judged_once():
    raters = []
    for name, values in {"a": (4, 9, 4), "b": (4, 9, 9), "c": (4, 9, 4)}.items():
        raters.append(Votes(rater=name, kind="rating", nameless=True))
        for question, value in enumerate(values):
            raters[-1].add(str(question), 1, (), float(value))
    raters[0].add("unshared", 1, (), 5.0)
    row = agreement_rows(raters, FEW)[-1]
    # Items agree 1, 1, 1/3; shares 5/9 and 4/9 by chance.
    chance = (5 / 9) ** 2 + (4 / 9) ** 2
    assert (row.first, row.statistic, row.items) == ("all 3 raters", "fleiss_kappa", 3)
    assert row.found.value == pytest.approx(((1 + 1 + 1 / 3) / 3 - chance) / (1 - chance))
    assert "all 3 raters on 3 shared ratings: Fleiss' kappa 0.5" in as_markdown(agreement_rows(raters, FEW), FEW)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(Refusal, match="its first row has a"):
        read_votes(lines(tmp_path / "x.jsonl", [{"a": 1}]), questions={})


def test_a_published_file_says_how_its_judge_agrees_with_itself(data_root):
    """Ten answers were judged twice, four of them with an error at first: six pairs, four of them equal."""
    path = data_root / "mt_bench/model_judgment/llama3-griffin__gpt-4_single.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: it comes with the published judgments, which are optional")
    rows = agreement_rows([read_votes(path, questions={})], FEW)
    assert rows[0].found.n == 6
    assert rows[0].found.value == pytest.approx(4 / 6)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "eval.agreement", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
