"""Judging with model judges: repeats, panels, what is asked again and what is not, cost, kin."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from eval.answer.candidate import Candidate
from eval.benchmarks import MTBench
from eval.benchmarks.protocol import BenchmarkFiles
from eval.config import EvalConfig
from eval.errors import JudgeFailure
from eval.judges import Panel, Price
from eval.judges.kinship import Kinship
from eval.judging.judgement import JudgingJob
from eval.pipeline import judge
from eval.records import Answer, Place, Unscored
from eval.report.judging import panel_agreement, write_judging
from eval.scored import JudgedBy, ScoredModel
from eval.scores.intervals import Uncertainty
from eval.serve import Automatic
from fusion.runtime.configure import Refusal
from fusion.runtime.fingerprint import module_digests
from fusion.runtime.progress import RunProgress

QUESTIONS = 4


class Said(RunProgress):
    """A progress that keeps its notes."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def benchmark(tmp_path):
    rows = [{"question_id": i, "category": "c", "turns": [f"question {i}"]} for i in range(QUESTIONS)]
    (tmp_path / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn")
    prompts = [{"name": name, "system_prompt": "Judge.", "prompt_template": "{question}|{answer}"} for name in names]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    files = BenchmarkFiles(questions=tmp_path / "question.jsonl", judge_prompts=tmp_path / "prompts.jsonl")
    return MTBench().load(files)


@pytest.fixture
def hold(tmp_path, benchmark):
    """`hold(judge)`: one sitting over one model's answers; the scored model, its rows by metric, what was noted."""

    def run(judging, *, answers=QUESTIONS, kinship=None):
        config = EvalConfig(
            serve=Automatic(),
            benchmarks={"mt_bench": MTBench()},
            judges={"mt_bench": judging},
            uncertainty=Uncertainty(),
            data=tmp_path,
            artifacts=tmp_path / "artifacts",
            kinship=kinship or Kinship(),
        )
        said = [Answer(question_id=str(i), model="m", turns=(f"answer {i}",)) for i in range(answers)]
        candidate = Candidate(model="m", group="Models", path=Path("m"), weights="w")
        progress = Said()
        (scored,) = judge(
            [JudgingJob(candidate=candidate, entry="mt_bench", benchmark=benchmark, answers=said)], config, progress
        )
        return scored, {row.metric: row for row in scored.metrics if row.slice == "all"}, progress.notes

    return run


def rating(number):
    return lambda *_: f"Good. Rating: [[{number}]]"


def test_repeats_are_averaged_and_their_spread_is_the_judges(endpoint, hold):
    server = endpoint(lambda _, before: f"[[{(6, 8)[before % 2]}]]")
    _, rows, _ = hold(server.judge())
    assert rows["rating"].value == 6
    assert "rating_judge_sd" not in rows
    scored, rows, _ = hold(server.judge(repeats=2))
    assert len(server.asked) == 2 * QUESTIONS  # the first asking was kept
    assert rows["rating"].value == 7
    # 6 and 8 about 7: squares 2 per item with one degree of freedom each.
    assert rows["rating_judge_sd"].value == pytest.approx(2**0.5)
    assert rows["rating_judge_share"].value == 100  # the items do not differ
    assert rows["rating"].n == QUESTIONS
    assert len(scored.shown.verdicts) == 2 * QUESTIONS


def test_neither_price_nor_patience_nor_the_number_of_workers_asks_again(endpoint, hold):
    server = endpoint(rating(7))
    hold(server.judge())
    hold(server.judge(concurrency=1, attempts=2, price=Price(prompt=1, completion=1), budget=5.0, family="f"))
    assert len(server.asked) == QUESTIONS
    hold(server.judge(extra={"temperature": 0.5}))
    assert len(server.asked) == 2 * QUESTIONS


def test_a_judge_that_answers_in_json_is_another_judge(endpoint, hold):
    server = endpoint(
        lambda question, _: '{"explanation": "Good.", "rating": 8}' if "JSON" in question else "Rating: [[6]]"
    )
    assert hold(server.judge())[1]["rating"].value == 6
    scored, rows, _ = hold(server.judge(reply="json"))
    assert (rows["rating"].value, rows["rating"].unscored) == (8, 0)
    assert {(verdict.judge, verdict.text) for verdict in scored.shown.verdicts} == {
        ("judge (json)", "Good.\n\nRating: [[8]]")
    }


def test_no_change_of_statistics_can_ask_a_paid_judge_again(endpoint, hold, tmp_path):
    hold(endpoint(rating(7)).judge())
    (manifest,) = (tmp_path / "artifacts/verdicts").glob("*/manifest.json")
    code = module_digests(tuple(json.loads(manifest.read_text())["modules"]))
    assert "eval.benchmarks.fastchat.single_rating" in code
    assert [name for name in code if name.startswith("eval.scores") or name == "eval.judges.asking"] == []


def test_a_panel_asks_only_the_members_that_did_not_sit_alone_before(endpoint, hold):
    first, second = endpoint(rating(4)), endpoint(rating(9))
    hold(first.judge())
    panel = Panel(members={"a": first.judge(), "b": second.judge()})
    scored, rows, _ = hold(panel)
    assert (len(first.asked), len(second.asked)) == (QUESTIONS, QUESTIONS)
    assert rows["rating"].value == pytest.approx(6.5)
    assert {name: set(votes.values()) for name, votes in scored.judged.votes.items()} == {"a": {4.0}, "b": {9.0}}
    hold(replace(panel, rule="majority"))
    assert (len(first.asked), len(second.asked)) == (QUESTIONS, QUESTIONS)


def test_what_a_member_does_not_say_is_left_out_until_too_few_are_left(endpoint, hold):
    mumbling = endpoint(lambda question, _: "fine" if "question 0" in question else "[[3]]")
    others = endpoint(rating(9)), endpoint(rating(6))
    panel = Panel(members={"a": mumbling.judge(), "b": others[0].judge(), "c": others[1].judge()})
    scored, rows, _ = hold(panel)
    # Question 0: 7.5 of two; the others 6 of three.
    assert rows["rating"].value == pytest.approx((7.5 + 3 * 6) / 4)
    assert rows["rating"].unscored == 0
    scored, rows, _ = hold(replace(panel, quorum=3))
    assert (rows["rating"].value, rows["rating"].unscored) == (6, 1)
    reasons = [r.reason for r in scored.shown.verdicts if isinstance(r, Unscored) and r.judge.startswith("panel")]
    assert len(reasons) == 1
    assert "2 of 3 members scored" in reasons[0]
    assert "a unscored (no rating" in reasons[0]


def test_the_second_layer_reads_the_first_and_the_mean_runs_over_both(endpoint, hold):
    def reviewed(first, then):
        return lambda question, _: f"Because. [[{then if 'Several reviewers' in question else first}]]"

    servers = endpoint(reviewed(2, 4)), endpoint(reviewed(8, 6))
    members = {name: server.judge(model=name) for name, server in zip(("low", "high"), servers, strict=True)}
    panel = Panel(members=members, layers=2)
    scored, rows, _ = hold(panel)
    assert rows["rating"].value == pytest.approx((2 + 8 + 4 + 6) / 4)
    again = servers[0].asked[-1]["messages"]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert again[2]["content"] == "Because. [[2]]"
    assert "[Review 1 (yours)]\nBecause. [[2]]" in again[3]["content"]
    assert "[Review 2]\nBecause. [[8]]" in again[3]["content"]
    assert set(scored.judged.votes["low"].values()) == {2.0}  # what it said by itself
    by_judge = {record.judge: record.value for record in scored.shown.verdicts}
    assert by_judge == {"panel:mean of low, high after review": 5, "low": 2, "high": 8} | {
        "low (after review)": 4,
        "high (after review)": 6,
    }
    assert [len(server.asked) for server in servers] == [2 * QUESTIONS] * 2
    hold(panel)
    assert [len(server.asked) for server in servers] == [2 * QUESTIONS] * 2


def test_a_missing_first_look_holds_back_the_second_of_its_question_alone(endpoint, hold):
    broken = [True]

    def script(question, _):
        if broken[0] and "question 1" in question and "Several" not in question:
            return 500, {}, {"error": {"message": "oops"}}
        return "[[5]]"

    flaky, steady = endpoint(script), endpoint(rating(7))
    panel = Panel(members={"flaky": flaky.judge(attempts=1), "steady": steady.judge()}, layers=2)
    _, rows, notes = hold(panel)
    assert (rows["rating"].n, rows["rating"].unscored) == (QUESTIONS - 1, 1)
    assert any("repeat the command" in note for note in notes)
    assert len(steady.asked) == QUESTIONS + QUESTIONS - 1
    broken[0] = False
    _, rows, _ = hold(panel)
    assert (rows["rating"].value, rows["rating"].unscored) == (6, 0)
    assert len(steady.asked) == 2 * QUESTIONS
    assert len(flaky.asked) == 2 * QUESTIONS + 1  # the failed one was asked twice


def _panel_of(servers, **settings):
    """A panel of two looks; `settings` are those of its last member."""
    *others, (name, server) = servers.items()
    members = {other: one.judge(model=other) for other, one in others}
    return Panel(members=members | {name: server.judge(model=name, **settings)}, layers=2)


def test_a_member_that_is_asked_otherwise_and_says_the_same_costs_the_others_no_second_look(endpoint, hold):
    servers = {"steady": endpoint(rating(7)), "other": endpoint(rating(5))}
    hold(_panel_of(servers))
    assert [len(server.asked) for server in servers.values()] == [2 * QUESTIONS, 2 * QUESTIONS]
    _, rows, _ = hold(_panel_of(servers, extra={"temperature": 0.5}))
    assert rows["rating"].value == 6
    assert [len(server.asked) for server in servers.values()] == [2 * QUESTIONS, 4 * QUESTIONS]


def test_a_second_look_is_asked_again_for_the_one_question_where_a_colleague_said_something_else(endpoint, hold):
    def script(question, _):
        return f"[[{9 if moved[0] and 'question 2' in question else 5}]]"

    moved = [False]
    servers = {"steady": endpoint(rating(7)), "other": endpoint(script)}
    hold(_panel_of(servers))
    moved[0] = True
    hold(_panel_of(servers, extra={"temperature": 0.5}))
    (again,) = servers["steady"].asked[2 * QUESTIONS :]
    assert "question 2" in again["messages"][1]["content"]
    assert "[Review 2]\n[[9]]" in again["messages"][-1]["content"]
    # And both second looks are there, whichever the colleague is asked for.
    for settings in ({}, {"extra": {"temperature": 0.5}}):
        hold(_panel_of(servers, **settings))
    assert len(servers["steady"].asked) == 2 * QUESTIONS + 1


def test_second_looks_count_in_the_estimate_until_the_first_are_known(endpoint, hold):
    servers = {"steady": endpoint(rating(7)), "other": endpoint(rating(5))}
    hold(_panel_of(servers))
    _, _, notes = hold(_panel_of(servers, extra={"temperature": 0.5}))
    charged = [note for note in notes if " is asked for " in note]
    # Before the colleague has spoken nobody knows what the second look shows, so it may have to be paid for.
    assert [note.split(" replies")[0] for note in charged] == [
        f"steady is asked for {QUESTIONS}",
        f"other is asked for {2 * QUESTIONS}",
    ]
    hold(_panel_of(servers, extra={"temperature": 0.5}))
    assert [len(server.asked) for server in servers.values()] == [2 * QUESTIONS, 4 * QUESTIONS]


def test_a_budget_is_held_before_anything_is_asked_and_measured_rates_replace_the_guess(endpoint, hold):
    server = endpoint(rating(7))
    price = Price(prompt=1e6, completion=1e6)  # one a token
    # Prompts of "Judge." and "question i|answer i": 25 characters at 4 a token, and 200 tokens a reply.
    guess = QUESTIONS * ((6 + 19) / 4 + 200)
    with pytest.raises(Refusal, match=re.escape(f"about {guess:.2f} at its price, and judge.budget is 800")):
        hold(server.judge(price=price, budget=800.0))
    assert server.asked == []
    _, _, notes = hold(server.judge(price=price, budget=900.0))
    said = "judge is asked for 4 replies, about 25 prompt and 800 completion tokens (4 characters a token): about "
    assert f"{said}{guess:.2f} at its price" in notes
    # The endpoint counts 11 prompt and 3 completion tokens a reply.
    _, _, notes = hold(server.judge(price=price, repeats=2))
    assert "about 44 prompt and 12 completion tokens (by the usage of 4 earlier replies): about 56.00" in notes[0]


def test_tokens_of_failed_attempts_are_counted_and_the_report_has_the_bill(endpoint, hold, completion, tmp_path):
    paid = {**completion("x"), "choices": []}  # unreadable, and paid for
    server = endpoint(lambda _, before: (200, {}, paid) if before == 0 else "[[7]]")
    scored, _, _ = hold(server.judge(price=Price(prompt=10, completion=100)))
    (cost,) = scored.judged.costs
    assert (cost.prompt_tokens, cost.completion_tokens) == (2 * 11 * QUESTIONS, 2 * 3 * QUESTIONS)
    assert cost.money == pytest.approx((88 * 10 + 24 * 100) / 1e6)
    assert (cost.replies, cost.asked) == (QUESTIONS, QUESTIONS)
    notes = write_judging([scored], tmp_path, Uncertainty())
    assert notes == ["Judging took 112 tokens in 4 replies and cost 0.0033; 4 were asked for by this run."]
    (row,) = csv.DictReader((tmp_path / "cost.csv").read_text().splitlines())
    assert (row["judge"], row["prompt_tokens"], row["asked"]) == ("judge", "88", "4")
    scored, _, _ = hold(server.judge(price=Price(prompt=10, completion=100)))
    assert (scored.judged.costs[0].prompt_tokens, scored.judged.costs[0].asked) == (88, 0)


def test_tokens_of_a_reply_that_failed_in_an_earlier_run_are_kept(endpoint, hold, completion):
    paid = {**completion("x"), "choices": []}
    server = endpoint(lambda _, before: (200, {}, paid) if before == 0 else "[[7]]")
    _, rows, _ = hold(server.judge(attempts=1))
    assert rows["rating"].unscored == QUESTIONS
    scored, rows, _ = hold(server.judge(attempts=1))
    assert rows["rating"].unscored == 0
    assert scored.judged.costs[0].prompt_tokens == 2 * 11 * QUESTIONS


def test_members_agreement_stands_in_the_report(endpoint, hold, tmp_path):
    first = endpoint(lambda question, _: "[[8]]" if "question 3" in question else "[[4]]")
    second = endpoint(lambda question, _: "[[8]]" if re.search("question [23]", question) else "[[4]]")
    scored, _, _ = hold(Panel(members={"a": first.judge(), "b": second.judge()}))
    notes = write_judging([scored], tmp_path, Uncertainty())
    # Squared distances 0, 0, 16, 0; by chance 16 * (1/4 * 1/2 + 3/4 * 1/2) = 8.
    assert notes[-1].startswith("a (mt_bench) and b (mt_bench) agree with quadratic kappa 0.50")
    assert "percent_agreement,0.75" in (tmp_path / "agreement.csv").read_text()
    write_judging([], tmp_path, Uncertainty())
    assert [path.name for path in tmp_path.glob("agreement*")] == []


def test_a_pair_that_is_told_of_both_models_is_one_item_of_the_agreement():
    def scored(model, opponent, a, b, order):
        place = Place(question_id="1", turn=1, opponent=opponent, order=order)
        judged = JudgedBy(costs=(), votes={"a": {place: a}, "b": {place: b}}, notes=())
        return ScoredModel(
            model=model, group="Models", benchmark="mt_bench_pairwise", metrics=(), items=(), judged=judged
        )

    both = [scored("x", "y", 2.0, 1.0, 1), scored("y", "x", 1.0, 2.0, 2)]
    for found in (both, both[:1], both[1:]):
        rows = {row.statistic: row for row in panel_agreement(found, Uncertainty())}
        assert (rows["percent_agreement"].items, rows["percent_agreement"].found.value) == (1, 0)


def test_a_judge_of_the_family_is_told_or_refused(endpoint, hold):
    server = endpoint(rating(7))
    kin = Kinship(families={"m": "qwen", "source-a": "llama", "source-b": "qwen"})
    _, _, notes = hold(server.judge(family="qwen"), kinship=kin)
    assert notes[0] == "Self-preference: the judge judge is of the family qwen, as is m, source-b."
    scored, _, _ = hold(server.judge(family="qwen"), kinship=kin)
    assert notes[0] in scored.judged.notes
    for judging, policy in ((server.judge(family="gpt"), "refuse"), (server.judge(family="qwen"), "allow")):
        _, _, notes = hold(judging, kinship=replace(kin, policy=policy))
        assert not [note for note in notes if "Self-preference" in note]
    with pytest.raises(Refusal, match="is of the family qwen"):
        hold(
            Panel(members={"a": server.judge(family="qwen"), "b": server.judge()}),
            kinship=replace(kin, policy="refuse"),
        )


def test_a_judge_that_refuses_ends_the_run_and_what_was_said_is_kept(endpoint, hold):
    locked = [True]

    def script(question, _):
        if locked[0] and "question 3" in question:
            return 401, {}, {"error": {"message": "no"}}
        return "[[7]]"

    server = endpoint(script)
    with pytest.raises(JudgeFailure, match="refuses"):
        hold(server.judge(concurrency=1))
    locked[0] = False
    hold(server.judge(concurrency=1))
    asked = [one["messages"][1]["content"] for one in server.asked]
    assert [asked.count(f"question {i}|answer {i}") for i in range(QUESTIONS)] == [1, 1, 1, 2]


def test_nothing_is_announced_when_everything_is_there(endpoint, hold):
    server = endpoint(rating(7))
    hold(server.judge())
    assert hold(server.judge())[2] == []
