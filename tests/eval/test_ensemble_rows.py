"""Ensembles as rows of an evaluation: served, judged and scored with the rest, and computed once."""

import json
from pathlib import Path

import pytest

from eval.answer.candidate import Candidate
from eval.benchmarks import BENCHMARKS
from eval.config import EvalConfig, eval_config
from eval.ensembles import ENSEMBLES, FusionOfN
from eval.judges import Reference
from eval.pipeline import evaluate
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from eval.serve import Transformers
from fusion.runtime.artifacts import Store
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress

RULES = {name: kind() for name, kind in ENSEMBLES.items() if name not in ("top1_pairrm", "fusion_of_n")}
SOURCES = ("source-one", "source-two", "source-three")
QUESTIONS = [
    ("sum", ["What is 7 + 9?", "And nine?"], ["16", "nine"]),
    ("sum", ["The sum of seven and nine is", "because"], ["sixteen", "7 + 9 = 16"]),
    ("name", ["naïve?", "What?"], ["no", "the answer"]),
]


@pytest.fixture(scope="module")
def candidates(make_checkpoint) -> list[Candidate]:
    made = {
        "pivot": make_checkpoint(11),
        "source-one": make_checkpoint(12),
        "source-two": make_checkpoint(13, "pieces"),
        "source-three": make_checkpoint(14),
    }
    return [
        Candidate(model=name, group="Pivot" if name == "pivot" else "Sources", path=path, weights=path.name)
        for name, path in made.items()
    ]


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("questions") / "mt.jsonl"
    rows = [
        {"question_id": 81 + number, "category": category, "turns": turns, "reference": known}
        for number, (category, turns, known) in enumerate(QUESTIONS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"mt": path}


def config(artifacts: Path, **changed) -> EvalConfig:
    settings = {
        "serve": Transformers(dtype="float32"),
        "benchmarks": {"mt": BENCHMARKS["mt_bench"](temperature=0.0, max_tokens=8)},
        "judges": {"mt": Reference()},
        "uncertainty": Uncertainty(seed=0),
        "data": artifacts,
        "artifacts": artifacts,
        "ensembles": {**RULES, "fusion_of_n": FusionOfN(fusor="source-one")},
    }
    return EvalConfig(**{**settings, **changed})


@pytest.fixture(scope="module")
def evaluated(candidates, questions, tmp_path_factory):
    artifacts = tmp_path_factory.mktemp("artifacts")
    progress = RunProgress()
    scored = evaluate(candidates, config(artifacts), progress, questions)
    return artifacts, progress, {one.model: one for one in scored}


def ratings(one) -> dict[tuple[str, int], float | None]:
    return {(item.question_id, item.turn): item.value for item in one.items if item.metric == "rating"}


def test_every_rule_is_a_row_after_the_models_in_the_order_chosen(evaluated):
    _, _, scored = evaluated
    assert list(scored) == ["pivot", *SOURCES, *(f"ensemble-{name}" for name in [*RULES, "fusion_of_n"])]
    rows = [one for name, one in scored.items() if name.startswith("ensemble-")]
    assert {one.group for one in rows} == {"Ensembles"}
    assert all({metric.slice for metric in one.metrics} >= {"all", "turn1", "turn2", "sum"} for one in rows)


def test_top1_by_the_judge_has_each_question_s_best_mean_of_both_turns(evaluated):
    _, _, scored = evaluated
    sources = [ratings(scored[name]) for name in SOURCES]
    own = ratings(scored["ensemble-top1_judge"])
    for question in ("81", "82", "83"):
        best = max((own[question, 1] + own[question, 2]) / 2 for own in sources)
        assert (own[question, 1] + own[question, 2]) / 2 == best


def test_a_selected_answer_is_one_source_s_with_that_source_s_verdicts(evaluated):
    _, _, scored = evaluated
    for rule in ("random", "longest", "best_source", "top1_ppl", "top1_judge"):
        shown = scored[f"ensemble-{rule}"].shown
        for answer in shown.answers:
            assert answer.model == f"ensemble-{rule}"
            origin = [
                name
                for name in SOURCES
                if any(
                    (theirs.turns, theirs.weights, theirs.question_id)
                    == (answer.turns, answer.weights, answer.question_id)
                    for theirs in scored[name].shown.answers
                )
            ]
            assert len(origin) == 1
            theirs = [v for v in scored[origin[0]].shown.verdicts if v.question_id == answer.question_id]
            assert [v for v in shown.verdicts if v.question_id == answer.question_id] == theirs


def test_selecting_asks_no_judge_and_new_answers_are_judged_once(evaluated):
    artifacts, progress, _ = evaluated
    stages = [stage for stage, _ in Store(root=artifacts).built()]
    # Four models, two PackLLMs and a fusor answered and were judged; three sources were measured; nothing else.
    assert {stage: stages.count(stage) for stage in stages} == {"answers": 7, "perplexity": 3, "verdicts": 7}
    assert progress.computed == 17


def test_a_second_run_computes_nothing_and_says_the_same(evaluated, candidates, questions):
    artifacts, _, scored = evaluated
    progress = RunProgress()
    again = evaluate(candidates, config(artifacts), progress, questions)
    assert progress.computed == 0
    assert [(one.model, one.metrics, one.items) for one in again] == [
        (one.model, one.metrics, one.items) for one in scored.values()
    ]


def test_another_measure_of_perplexity_needs_no_model(evaluated, candidates, questions):
    artifacts, _, _ = evaluated
    progress = RunProgress()
    rule = ENSEMBLES["top1_ppl"](of="answer", per="byte")
    evaluate(candidates, config(artifacts, ensembles={"top1_ppl": rule}), progress, questions)
    assert progress.computed == 0


def test_the_table_says_which_rows_are_oracles_and_marks_none_of_them_best(evaluated, tmp_path):
    _, _, scored = evaluated
    write_report([*scored.values()], tmp_path, title="t", uncertainty=Uncertainty(seed=0))
    page = (tmp_path / "leaderboard.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| ensemble-top1_judge")]
    assert "**" not in row and "<u>" not in row
    assert "ensemble-top1_judge is an ORACLE" in page
    assert "ensemble-best_source is an ORACLE" in page
    assert "ensemble-random is" not in page


def test_without_sources_ensembles_are_refused(candidates, questions, tmp_path):
    with pytest.raises(Refusal, match="this run has only Pivot"):
        evaluate(candidates[:1], config(tmp_path), RunProgress(), questions)


def test_an_unknown_fusor_is_refused_before_anything_is_asked(candidates, questions, tmp_path):
    changed = config(tmp_path, ensembles={"fusion_of_n": FusionOfN(fusor="gpt-5")})
    with pytest.raises(Refusal, match="expected a model of this run, pivot, source-one"):
        evaluate(candidates, changed, RunProgress(), questions)
    assert Store(root=tmp_path).built() == []


def test_the_pivot_can_be_a_member(candidates, questions, evaluated):
    artifacts, _, _ = evaluated
    changed = config(artifacts, ensembles={"longest": RULES["longest"]}, ensemble_members=("Pivot", "Sources"))
    (row,) = [one for one in evaluate(candidates, changed, RunProgress(), questions) if one.model == "ensemble-longest"]
    longest = {
        question: max(sum(map(len, a.turns)) for a in answers)
        for question, answers in _by_question([c.model for c in candidates], evaluated[2]).items()
    }
    assert {a.question_id: sum(map(len, a.turns)) for a in row.shown.answers} == longest


def _by_question(models, scored) -> dict:
    found: dict = {}
    for model in models:
        for answer in scored[model].shown.answers:
            found.setdefault(answer.question_id, []).append(answer)
    return found


def test_members_are_a_list_of_groups():
    assert eval_config(compose("ablations", ["ensemble_members=[Pivot,Sources]"])).ensemble_members == (
        "Pivot",
        "Sources",
    )
    with pytest.raises(Refusal, match="expected a list of groups, such as \\[Sources\\]"):
        eval_config(compose("ablations", ["ensemble_members=Sources"]))
