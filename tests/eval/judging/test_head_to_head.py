"""Who meets whom: everybody the baseline, or each pair once; a pair's verdict is both models'."""

import json
import random
from collections import Counter
from dataclasses import dataclass

import pytest

from eval.benchmarks import MTBench, MTBenchPairwise
from eval.benchmarks.fastchat.rules import fastchat_means, shown_by
from eval.config import EvalConfig
from eval.judges import Member, Recorded, Reply
from eval.pipeline import judge_answers
from eval.report.packages.fastchat import write_fastchat_files
from eval.report.tables import scores_table
from eval.scores.intervals import Uncertainty
from eval.serve import ExistingEndpoint
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress

UNCERTAINTY = Uncertainty()
CATEGORIES = ("writing", "math")


@dataclass(frozen=True, kw_only=True)
class Fickle(Member):
    """A scripted judge: words drawn from the request, some of them unreadable, and a list of what it was asked."""

    words: tuple[str, ...]
    label: str = "fickle"

    def __post_init__(self):
        object.__setattr__(self, "asked", [])  # no field, so no part of the verdicts' key

    def judge(self, requests, hand_over):
        for request in requests:
            self.asked.append(request)
            place = (request.model, *request.answers, request.turn)
            hand_over(request, Reply(text=random.Random(repr(place)).choice(self.words)))


@pytest.fixture
def data(tmp_path):
    """Twelve two-turn questions and three models' answers to them, in fastchat's files."""
    questions = [
        {
            "question_id": 81 + n,
            "category": CATEGORIES[n % 2],
            "turns": [f"q{n}?", f"more {n}?"],
            "reference": ["r", "s"],
        }
        for n in range(12)
    ]
    lines(tmp_path / "question.jsonl", questions)
    for model in ("ant", "bee", "cow"):
        rows = [
            {"question_id": 81 + n, "choices": [{"index": 0, "turns": [f"{model} says {n}", f"{model} adds {n}"]}]}
            for n in range(12 if model != "cow" else 11)  # one question is not answered
        ]
        lines(tmp_path / "model_answer" / f"{model}.jsonl", rows)
    return tmp_path


def lines(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(data, benchmark, judge):
    return EvalConfig(
        serve=ExistingEndpoint(base_url="http://nowhere", model="none"),
        benchmarks={"entry": benchmark},
        judges={"entry": judge},
        uncertainty=UNCERTAINTY,
        data=data,
        artifacts=data / "artifacts",
    )


def evaluated(data, benchmark, judge, answers=None):
    settings = config(data, benchmark, judge)
    with RunProgress() as progress:
        scored = judge_answers(answers or data / "model_answer", settings, progress)
    return scored, settings


def rates(scored, metric="pairwise_win_rate"):
    return {one.model: row.value for one in scored for row in one.metrics if (row.metric, row.slice) == (metric, "all")}


def pairwise(baseline):
    return MTBenchPairwise(questions="question.jsonl", temperature=0.0, baseline=baseline)


def test_all_pairs_are_judged_once_and_count_for_both(data):
    judge = Fickle(words=("[[A]]", "[[B]]", "[[C]]"))
    scored, _ = evaluated(data, pairwise(None), judge)
    met = Counter((request.model, request.opponent) for request in judge.asked)
    # 12 questions of two turns in two orders; cow lacks one question.
    assert met == {("ant", "bee"): 48, ("ant", "cow"): 44, ("bee", "cow"): 44}
    assert sum(n for n in rates(scored, "pairwise_wins").values()) == sum(
        n for n in rates(scored, "pairwise_losses").values()
    )
    head = {
        (one.model, row.slice): row.value for one in scored for row in one.metrics if row.metric == "pairwise_win_rate"
    }
    for first, second in (("ant", "bee"), ("ant", "cow"), ("bee", "cow")):
        assert head[first, f"against {second}"] + head[second, f"against {first}"] == pytest.approx(100)
    assert {one.model: len({answer.model for answer in one.shown.opponents}) for one in scored} == {
        "ant": 2,
        "bee": 2,
        "cow": 2,
    }
    unscored = {one.model: row.unscored for one in scored for row in one.metrics if row.slice == "all"}
    assert unscored == {"ant": 2, "bee": 2, "cow": 4}


def test_against_a_model_of_the_run_that_model_has_no_row(data):
    judge = Fickle(words=("[[A]]", "[[B]]", "[[C]]"))
    scored, _ = evaluated(data, pairwise("bee"), judge)
    assert {(request.model, request.opponent) for request in judge.asked} == {("ant", "bee"), ("cow", "bee")}
    assert set(rates(scored)) == {"ant", "cow"}


def test_against_a_file_every_model_of_the_run_has_a_row(data):
    (data / "model_answer" / "bee.jsonl").rename(data / "elsewhere.jsonl")
    judge = Fickle(words=("[[A]]", "[[B]]"))
    scored, _ = evaluated(data, pairwise("elsewhere.jsonl"), judge)
    assert {request.opponent for request in judge.asked} == {"elsewhere"}
    assert set(rates(scored)) == {"ant", "cow"}


def test_nobody_to_meet_is_refused(data):
    judge = Fickle(words=("[[A]]",))
    with pytest.raises(Refusal, match=r"baseline emu is none of the models ant, bee, cow: set .*\.baseline"):
        evaluated(data, pairwise("emu"), judge)
    ant = data / "model_answer" / "ant.jsonl"
    with pytest.raises(Refusal, match="ant has no model to be compared with"):
        evaluated(data, pairwise(None), judge, ant)
    with pytest.raises(Refusal, match="would be compared with itself"):
        evaluated(data, pairwise("ant"), judge, ant)
    assert judge.asked == []


def test_a_judge_that_knows_only_places_is_seen_through(data):
    scored, _ = evaluated(data, pairwise(None), Fickle(words=("[[A]]",)))
    assert set(rates(scored).values()) == {50.0}
    assert set(rates(scored, "first_position_bias").values()) == {100.0}
    assert set(rates(scored, "position_consistency").values()) == {0.0}


def fastchat_win_rates(judgments, *, baseline):
    """What fastchat's own `show_result` prints for `<judge>_pair.jsonl`: by model counts of pairs and rates, 0 to 1."""
    (table,) = shown_by("display_result_pairwise", judgments, baseline_model=baseline)
    return table.to_dict(orient="index")


@pytest.mark.parametrize("baseline", [None, "bee", "baseline.jsonl"])
def test_pair_files_are_read_by_fastchat_and_by_our_replay_to_the_same_table(data, tmp_path, baseline):
    if baseline == "baseline.jsonl":
        (data / baseline).write_text((data / "model_answer" / "bee.jsonl").read_text())
    judge = Fickle(words=("[[A]]", "[[B]]", "[[C]]", "Hm."))
    scored, settings = evaluated(data, pairwise(baseline), judge)
    out = tmp_path / "out"
    write_fastchat_files(scored, settings, out)
    written = out / "entry" / "model_judgment" / "fickle_pair.jsonl"
    shown = fastchat_win_rates(written, baseline=baseline and baseline.removesuffix(".jsonl"))
    for model, rate in rates(scored).items():
        assert shown[model]["win_rate_adjusted"] == pytest.approx(rate / 100)
        for ours, theirs in (("wins", "win"), ("ties", "tie"), ("losses", "loss")):
            assert shown[model][theirs] == rates(scored, f"pairwise_{ours}")[model]
    again, _ = evaluated(data, pairwise(baseline), Recorded(file=str(written)), data / "model_answer")
    ours = table(again)
    beside = ours[ours["metric"] == "pairwise_win_rate_fastchat"]
    assert ours.drop(beside.index).reset_index(drop=True).equals(table(scored))
    # What could not be read is in the file as an error, so fastchat's way of counting stands beside ours.
    all_pairs = beside[beside["slice"] == "all"]
    assert dict(zip(all_pairs["model"], all_pairs["value"], strict=True)) == pytest.approx(rates(scored))


def test_repeated_pairs_are_counted_both_ways(data, tmp_path):
    scored, settings = evaluated(data, pairwise("bee"), Fickle(words=("[[A]]", "[[B]]", "[[C]]")))
    write_fastchat_files(scored, settings, tmp_path / "out")
    (written,) = (tmp_path / "out" / "entry" / "model_judgment").iterdir()
    rows = written.read_text().splitlines()
    again = json.loads(rows[0]) | {"g1_judgment": "[[A]]", "g1_winner": "model_1"}  # the first pair, judged again
    again |= {"g2_judgment": "[[B]]", "g2_winner": "model_1"}
    written.write_text("\n".join([*rows, json.dumps(again)]) + "\n")
    replayed, _ = evaluated(data, pairwise("bee"), Recorded(file=str(written)))
    shown = fastchat_win_rates(written, baseline="bee")
    by_file, ours = rates(replayed, "pairwise_win_rate_fastchat"), rates(replayed)
    assert set(by_file) == {"ant"}  # the other model's rows are one per pair
    assert by_file["ant"] == pytest.approx(100 * shown["ant"]["win_rate_adjusted"])
    first = {one.model: one for one in scored}["ant"]
    (item,) = (i for i in first.items if (i.question_id, i.turn) == ("81", 1))
    # Ours: the repeat replaces the first judging, a win, over 24 pairs.
    assert ours["ant"] == pytest.approx(rates(scored)["ant"] + 100 * (1 - item.value) / 24)
    assert by_file["ant"] == pytest.approx((24 * rates(scored)["ant"] + 100) / 25)


def test_single_files_are_read_by_fastchat_and_by_our_replay_to_the_same_table(data, tmp_path):
    judge = Fickle(words=("[[7]]", "Rating: [[3.5]]", "[[10]]", "[[72]]", "Good."))
    scored, settings = evaluated(data, MTBench(questions="question.jsonl", temperature=0.0), judge)
    out = tmp_path / "out"
    write_fastchat_files(scored, settings, out)
    written = out / "entry" / "model_judgment" / "fickle_single.jsonl"
    shown = fastchat_means(written)
    for one in scored:
        for row in one.metrics:
            if row.slice in shown:
                assert shown[row.slice][one.model] == pytest.approx(row.value, abs=1e-12)
    again, _ = evaluated(
        data, settings.benchmarks["entry"], Recorded(file=str(written)), out / "entry" / "model_answer"
    )
    ours = table(again)
    assert ours[ours["metric"] == "rating"].reset_index(drop=True).equals(table(scored))
    # What was -1 stands beside: fastchat counts the same rows.
    beside = ours[ours["metric"] == "rating_fastchat"]
    assert beside["value"].tolist() == pytest.approx(table(scored)["value"].tolist())


def table(scored):
    return scores_table(scored, uncertainty=UNCERTAINTY).reset_index(drop=True)
