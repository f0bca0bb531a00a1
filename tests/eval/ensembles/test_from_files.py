"""Ensembles of answers and verdicts that lie in files: no model, no judge."""

import json
from pathlib import Path

import pytest

from eval.benchmarks import BENCHMARKS
from eval.config import EvalConfig
from eval.ensembles import BestSource, Longest, PackLLMSim, Top1Judge, Top1PPL
from eval.judges import Recorded
from eval.pipeline import judge_answers
from eval.scores.intervals import Uncertainty
from eval.serve import Transformers
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress

# instruction: {model: (answer, preference)}; the second model did not answer the last one.
ANNOTATED = {
    "one": {"a": ("short", 1.75), "b": ("much longer", 1.25)},
    "two": {"a": ("long enough", 1.0), "b": ("brief", 2.0)},
    "three": {"a": ("only mine", 1.5)},
}


@pytest.fixture
def files(tmp_path) -> tuple[Path, EvalConfig]:
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps([{"instruction": i, "output": "base", "generator": "baseline"} for i in ANNOTATED]))
    annotations = tmp_path / "annotations.json"
    rows = [
        {
            "instruction": instruction,
            "output_1": "base",
            "generator_1": "baseline",
            "output_2": answer,
            "generator_2": model,
            "preference": preference,
        }
        for model in ("a", "b")
        for instruction, said in ANNOTATED.items()
        for answer, preference in [said.get(model, (None, None))]
        if answer is not None
    ]
    annotations.write_text(json.dumps(rows))
    config = EvalConfig(
        serve=Transformers(),
        benchmarks={"alpaca": BENCHMARKS["alpaca_eval"](questions=str(asked))},
        judges={"alpaca": Recorded(file=str(annotations))},
        uncertainty=Uncertainty(seed=0),
        data=tmp_path,
        artifacts=tmp_path / "artifacts",
        ensembles={"longest": Longest(), "best_source": BestSource(), "top1_judge": Top1Judge()},
        ensemble_members=("Models",),
    )
    return annotations, config


def wins(scored, model: str) -> list[float | None]:
    (one,) = [entry for entry in scored if entry.model == model]
    return [item.value for item in one.items if item.metric == "win_rate"]


def test_recorded_verdicts_of_several_models_in_one_file_stand_for_what_is_selected(files):
    annotations, config = files
    scored = judge_answers(annotations, config, RunProgress())
    assert wins(scored, "a") == [0.75, 0.0, 0.5]
    assert wins(scored, "b") == [0.25, 1.0, None]
    assert wins(scored, "ensemble-longest") == [0.25, 0.0, 0.5]  # b's, a's, and a's, who alone answered
    assert wins(scored, "ensemble-best_source") == [0.25, 1.0, None]  # b: (0.25 + 1) / 2 against a: 1.25 / 3
    assert wins(scored, "ensemble-top1_judge") == [0.75, 1.0, 0.5]


@pytest.mark.parametrize("rule", [Top1PPL(), PackLLMSim()])
def test_what_needs_the_models_is_refused(files, rule):
    annotations, config = files
    changed = EvalConfig(**{**vars(config), "ensembles": {"this": rule}})
    with pytest.raises(Refusal, match="this needs the models themselves"):
        judge_answers(annotations, changed, RunProgress())
