"""Pairwise MT-Bench: both orders are played, fastchat's rule makes one outcome of them, nothing unread is counted."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.benchmarks import BENCHMARKS, MTBenchPairwise
from eval.benchmarks.paired_games import GamePair, pairwise_rows
from eval.benchmarks.protocol import BenchmarkFiles
from eval.judges import Reference, Reply
from eval.judging.collect import collect_verdicts
from eval.records import Answer, Question, Unscored, Verdict
from eval.scores.intervals import Uncertainty
from fusion.runtime.configure import Refusal, choose

QUESTIONS = [
    {"question_id": 1, "category": "numbers", "turns": ["3+4?", "doubled?"], "reference": ["7", "14"]},
    {"question_id": 2, "category": "letters", "turns": ["upper a"], "reference": ["A"]},
]
UNCERTAINTY = Uncertainty()


@pytest.fixture
def pocket(tmp_path):
    path = tmp_path / "question.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return MTBenchPairwise(temperature=0.0).load(BenchmarkFiles(questions=path))


@pytest.fixture(scope="module")
def official(data_root):
    settings = MTBenchPairwise(
        questions="mt_bench/question.jsonl", judge_prompts="mt_bench/judge_prompts.jsonl", references="gpt-4"
    )
    return settings.load(settings.files(data_root))


def answers(model, *turns):
    return [Answer(question_id=str(i), model=model, turns=said) for i, said in enumerate(turns, start=1)]


def judged(benchmark, own, tmp_path):
    plan = benchmark.plan(own)
    return collect_verdicts(benchmark=benchmark, plan=plan, judge=Reference(), journal=tmp_path / "v.jsonl")


def games(first, second):
    """A pair whose games have these values; None is a game that could not be read."""

    def record(order, value):
        place = {"question_id": "1", "turn": 1, "judge": "j", "opponent": "o", "order": order}
        return Unscored(reason="unread", **place) if value is None else Verdict(value=value, text="", **place)

    question = Question(id="1", category="c", turns=("?",))
    return GamePair(question=question, turn=1, opponent="o", games=(record(1, first), record(2, second)))


def test_every_turn_is_shown_in_both_orders(pocket):
    bound = pocket.against({"base": answers("base", ("8", "16"), ("a",))})
    requests = bound.plan(answers("m", ("7", "14"), ("A",))).requests
    assert [(r.question_id, r.turn, r.order, r.answers) for r in requests] == [
        ("1", 1, 1, ("7", "8")),
        ("1", 1, 2, ("8", "7")),
        ("1", 2, 1, ("14", "16")),
        ("1", 2, 2, ("16", "14")),
        ("2", 1, 1, ("A", "a")),
        ("2", 1, 2, ("a", "A")),
    ]
    assert {(r.model, r.opponent, r.form) for r in requests} == {("m", "base", "verdict_letter")}
    assert len({r.place for r in requests}) == 6


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    # fastchat: equal verdicts win or lose, everything else ties, an unread game drops the pair.
    [(2, 2, 1), (1, 1, 0), (1.5, 1.5, 0.5), (2, 1, 0.5), (1, 2, 0.5), (2, 1.5, 0.5), (1.5, 1, 0.5), (1.75, 1.6, 1)],
)
def test_two_games_make_one_outcome(first, second, outcome):
    assert games(first, second).outcome == outcome


@pytest.mark.parametrize(("first", "second"), [(None, 2), (1, None), (None, None)])
def test_a_pair_with_an_unread_game_is_unscored_with_its_reason(first, second):
    pair = games(first, second)
    assert (pair.outcome, pair.reason) == (None, "unread")
    rows = {row.metric: row for row in pairwise_rows("all", [pair, games(2, 2)], UNCERTAINTY)}
    assert (rows["pairwise_win_rate"].value, rows["pairwise_win_rate"].n) == (100.0, 1)
    assert {row.unscored for row in rows.values()} == {1}


def test_rows_count_outcomes_and_position_bias():
    # Win, loss, agreed tie; A twice (the model first, then the opponent); B twice.
    pairs = [games(2, 2), games(1, 1), games(1.5, 1.5), games(2, 1), games(1, 2), games(2, 1)]
    rows = {row.metric: row for row in pairwise_rows("all", pairs, UNCERTAINTY)}
    assert rows["pairwise_wins"].value == 1
    assert rows["pairwise_ties"].value == 4
    assert rows["pairwise_losses"].value == 1
    assert rows["pairwise_win_rate"].value == pytest.approx(100 * (1 + 4 / 2) / 6)
    assert rows["position_consistency"].value == pytest.approx(100 * 3 / 6)
    # Of 12 games A wins 1 + 1 + 0 + 2 + 0 + 2, B 1 + 1 + 0 + 0 + 2 + 0.
    assert rows["first_position_bias"].value == pytest.approx(100 * (6 - 4) / 12)


@given(st.lists(st.tuples(*[st.sampled_from([1.0, 1.5, 2.0, None])] * 2), min_size=1, max_size=12))
def test_both_sides_of_the_same_games_add_up(values):
    """From the opponent's side games swap places and preferences: rates add to 100, the judge's bias stays."""
    own = {row.metric: row for row in pairwise_rows("all", [games(*pair) for pair in values], UNCERTAINTY)}
    turned = [games(*(None if value is None else 3 - value for value in reversed(pair))) for pair in values]
    theirs = {row.metric: row for row in pairwise_rows("all", turned, UNCERTAINTY)}
    assert own["pairwise_wins"].value == theirs["pairwise_losses"].value
    assert own["pairwise_ties"].value == theirs["pairwise_ties"].value
    if own["pairwise_win_rate"].value is not None:
        assert own["pairwise_win_rate"].value + theirs["pairwise_win_rate"].value == pytest.approx(100)
        assert own["position_consistency"].value == theirs["position_consistency"].value
        assert own["first_position_bias"].value == pytest.approx(theirs["first_position_bias"].value)


def test_slices_are_turns_categories_and_opponents(pocket, tmp_path):
    bound = pocket.against({"b": answers("b", ("8", "14"), ("a",)), "c": answers("c", ("7", "14"), ("A",))})
    own = answers("m", ("7", "14"), ("b",))
    found = {(row.metric, row.slice): row for row in bound.metrics(judged(bound, own, tmp_path), own, UNCERTAINTY)}
    rates = {name: row.value for (metric, name), row in found.items() if metric == "pairwise_win_rate"}
    # Against b: win, tie ("a" for "b": both wrong, nothing shared), tie; against c: tie, tie, loss.
    assert rates == {
        "all": pytest.approx(100 * (1 + 0.5 + 0.5 + 0.5 + 0.5 + 0) / 6),
        "turn1": pytest.approx(100 * (1 + 0.5 + 0.5 + 0) / 4),
        "turn2": 50.0,
        "numbers": pytest.approx(100 * (1 + 0.5 + 0.5 + 0.5) / 4),
        "letters": 25.0,
        "against b": pytest.approx(100 * 2 / 3),
        "against c": pytest.approx(100 * 1 / 3),
    }
    items = {(item.question_id, item.turn): item.value for item in bound.item_scores(judged(bound, own, tmp_path), own)}
    assert items == {("1", 1): 0.75, ("1", 2): 0.5, ("2", 1): 0.25}


def test_what_either_did_not_answer_is_unscored_in_both_orders(pocket, tmp_path):
    bound = pocket.against({"base": [Answer(question_id="1", model="base", turns=("8",), reason="it timed out")]})
    own = answers("m", ("7", "14"), ("A",))[:1]
    plan = bound.plan(own)
    assert [(r.question_id, r.turn, r.order) for r in plan.requests] == [("1", 1, 1), ("1", 1, 2)]
    assert sorted((s.question_id, s.turn, s.order, s.opponent, s.reason) for s in plan.settled) == [
        ("1", 2, 1, "base", "base: it timed out"),
        ("1", 2, 2, "base", "base: it timed out"),
        ("2", 1, 1, "base", "no answer"),
        ("2", 1, 2, "base", "no answer"),
    ]
    rows = {(row.metric, row.slice): row for row in bound.metrics(judged(bound, own, tmp_path), own, UNCERTAINTY)}
    assert (rows["pairwise_win_rate", "all"].n, rows["pairwise_win_rate", "all"].unscored) == (1, 2)
    assert rows["pairwise_win_rate", "letters"].reason == "nothing was scored"


def test_the_published_prompts_are_filled_by_turn_category_and_order(official):
    def said(model):
        return [
            Answer(question_id=q.id, model=model, turns=(f"{model} one {{x}}", f"{model} two"))
            for q in official.questions
        ]

    bound = official.against({"other": said("other")})
    requests = bound.plan(said("own")).requests
    assert len(requests) == 80 * 2 * 2
    known = {question.id: question for question in official.questions}
    for request in requests:
        system, user = (message["content"] for message in request.messages)
        question = known[request.question_id]
        math = question.category in ("math", "reasoning", "coding")
        assert "two AI assistants" in system
        own, other = (user.index(f"{model} one {{x}}") for model in ("own", "other"))
        assert (own < other) == (request.order == 1)
        assert ("two" in user.split("own one")[-1]) == (request.turn == 2)
        assert all((turn in user) for turn in question.turns[: request.turn])
        for number, reference in enumerate(question.references or (), start=1):
            assert (reference in user) == (math and number <= request.turn)


def test_a_replayed_winner_that_the_words_contradict_is_refused(pocket):
    bound = pocket.against({"base": answers("base", ("8", "16"), ("a",))})
    first, second, *_ = bound.plan(answers("m", ("7", "14"), ("A",))).requests
    assert bound.read(first, Reply(text="[[A]]", value=2.0), judge="j").value == 2.0
    assert bound.read(second, Reply(text="[[A]]", value=1.0), judge="j").value == 1.0
    with pytest.raises(Refusal, match=r"says that base wins, but its judgment says m: .* edited"):
        bound.read(first, Reply(text="[[A]]", value=1.0), judge="j")
    blank = bound.read(first, Reply(text="$ERROR$", value=-1.0), judge="j")
    assert isinstance(blank, Unscored)
    assert "marks the game as an error" in blank.reason


def test_settings_are_chosen_by_name_and_checked():
    chosen = choose(BENCHMARKS, {"name": "mt_bench_pairwise", "baseline": "gpt-4"}, at="benchmark.x")
    assert chosen.baseline_file is None
    assert MTBenchPairwise(baseline="a/b.jsonl.gz").baseline_file == "a/b.jsonl.gz"
    with pytest.raises(Refusal, match="max_tokens is 0"):
        choose(BENCHMARKS, {"name": "mt_bench_pairwise", "max_tokens": 0}, at="benchmark.x")
    with pytest.raises(Refusal, match="the baseline's answers is not at"):
        MTBenchPairwise(questions=__file__, baseline="none.jsonl").files(Path(__file__).parent)
