"""What the stages of an experiment work on: the real pipeline, walked with a store that only writes it down."""

import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fusion.experiment import FusionConfig, fusion_config
from fusion.made import producer
from fusion.pipeline import FusedModels, run
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Advance, Stage, unseen


@dataclass(frozen=True, kw_only=True)
class Recorder(Store):
    """Computes nothing: notes each stage's inputs, name and seed by the content it would leave, here one of its own."""

    seeds: dict[str, int | None] = field(default_factory=dict)
    inputs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def produce(self, stage: Stage, advance: Advance = unseen) -> Artifact:
        key = self.key(stage)
        files = {"fusion.jsonl": {"sha256": f"fusion {key}"}, "train_numbers.jsonl": {"sha256": f"train {key}"}}
        manifest = {"files": files}
        made = Artifact(stage=stage.name, key=key, path=self.path(stage.name, key), manifest=manifest, reused=False)
        with self._lock:
            self.inputs[made.content], self.stages[made.content] = dict(stage.inputs), stage.name
            self.seeds[made.content] = stage.seed
        return made

    def behind(self, key: str, stage: str) -> set[str]:
        """The contents of that stage's outputs which went into the making of `key`, at any remove."""
        found: set[str] = set()
        for given in self.inputs.get(key, {}).values():
            found |= ({given} if self.stages.get(given) == stage else set()) | self.behind(given, stage)
        return found


def experiment(artifacts: Path, *overrides: str) -> FusionConfig:
    given = ["experiment=pocket_smoke", f"paths.artifacts={artifacts}", *overrides]
    return fusion_config(compose("fusion", given))


def walked(config: FusionConfig) -> tuple[Recorder, FusedModels]:
    store = Recorder(root=config.artifacts)
    return store, run(config, RunProgress(Console(quiet=True)), store=store)


def keys(models: FusedModels, group: str) -> dict[str, str]:
    return {model.model: model.key for model in models.checkpoints if model.group == group}


def test_a_target_learns_from_its_own_source_and_multi_from_all(tmp_path):
    store, models = walked(experiment(tmp_path))
    sources = keys(models, "Sources")
    pivot = keys(models, "Pivot")["pivot"]

    def teachers(key: str) -> set[str]:
        return {store.inputs[represented]["checkpoint"] for represented in store.behind(key, "represent")}

    for model, key in keys(models, "Targets").items():
        assert teachers(key) == {pivot, sources[model.replace("target-", "source-")]}
    baselines = keys(models, "Baselines")
    assert teachers(baselines["multi"]) == {pivot, *sources.values()}
    assert teachers(baselines["sft"]) == set()


def test_self_distillation_is_taught_by_the_pivot_and_by_nobody_else(tmp_path):
    store, models = walked(experiment(tmp_path, "teacher=pivot"))
    targets = keys(models, "Targets")
    assert len(targets) == 3
    for key in targets.values():
        (represented,) = store.behind(key, "represent")
        assert store.inputs[represented]["checkpoint"] == keys(models, "Pivot")["pivot"]
        assert store.behind(key, "align") == set()


def test_shuffled_teaching_puts_a_step_between_the_fused_targets_and_the_training(tmp_path):
    plain, fused = walked(experiment(tmp_path))
    store, shuffled = walked(experiment(tmp_path, "teacher=shuffled"))
    for row, key in keys(fused, "Targets").items():
        as_fused = plain.inputs[key]["fused"]
        learned = store.inputs[keys(shuffled, "Targets")[row]]["fused"]
        # What is learned was made of what the fused target learned, and of the pivot's vocabulary.
        assert learned != as_fused
        assert store.inputs[learned]["fused"] == as_fused
        (pivot,) = (key for key in store.inputs[learned].values() if key != as_fused)
        assert store.inputs[pivot]["checkpoint"] == keys(shuffled, "Pivot")["pivot"]


@pytest.mark.parametrize("other", ["teacher=pivot", "teacher=shuffled"])
def test_no_control_shares_a_target_with_the_experiment_and_all_share_sft(other, tmp_path):
    _, fused = walked(experiment(tmp_path))
    _, control = walked(experiment(tmp_path, other))
    assert not set(keys(fused, "Targets").values()) & set(keys(control, "Targets").values())
    assert keys(fused, "Baselines")["sft"] == keys(control, "Baselines")["sft"]


LABELS = ("train.lm_weight=1", "train.lm_weight=1 train.label_smoothing=0.1")
ARMS = ("teacher=fused", "teacher=shuffled", "teacher=pivot", *LABELS)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_as_many_trainings_as_the_fused_targets_with_the_same_seeds(arm, tmp_path):
    store, models = walked(experiment(tmp_path, "seed=3", *arm.split()))
    targets = list(keys(models, "Targets").values())
    assert len(set(targets)) == 3
    assert [store.seeds[key] for key in targets] == [3, 1003, 2003]
    # What is one training stands beside the first target: the same order of the same dialogues.
    assert {store.seeds[key] for key in keys(models, "Baselines").values()} == {3}


def test_the_labels_arm_has_the_baseline_among_its_trainings(tmp_path):
    _, fused = walked(experiment(tmp_path))
    _, labels = walked(experiment(tmp_path, "train.lm_weight=1"))
    sft = keys(fused, "Baselines")["sft"]
    assert keys(labels, "Baselines") == {"sft": sft, "multi": sft}
    assert keys(labels, "Targets")["target-numbers"] == sft


def test_a_seed_of_the_pocket_experiment_is_another_draw_unless_the_draw_is_held(tmp_path):
    def base(*overrides: str) -> set[str]:
        _, models = walked(experiment(tmp_path, *overrides))
        return {*keys(models, "Pivot").values(), *keys(models, "Sources").values()}

    drawn = [base(), base("seed=1"), base("draw=2")]
    assert len(set.union(*drawn)) == sum(map(len, drawn)) == 12
    assert base("seed=1", "draw=0") == drawn[0]
    assert base("seed=2") == drawn[2]


def test_a_draw_is_another_start_another_training_and_other_dialogues_and_asks_the_same(tmp_path):
    first, second = experiment(tmp_path), experiment(tmp_path, "draw=1")
    for name, model in first.models.items():
        before, after = model.pocket, second.models[name].pocket
        assert (after.model.seed, after.train.seed) == (before.model.seed + 1, before.train.seed + 1)
    assert second.data == replace(first.data, seed=first.data.seed + 1)
    assert second.train == first.train


def test_a_draw_of_models_that_somebody_gave_is_refused():
    with pytest.raises(Refusal, match="draw is 1, and nothing here is drawn"):
        fusion_config(compose("fusion", ["experiment=small_gpu", "draw=1"]))
    assert fusion_config(compose("fusion", ["experiment=small_gpu", "seed=1"])).seed == 1


CUT = {
    "conversations": 8, "labels": 90, "labels_without_target": 30, "conversations_cut": 5,
    "conversations_without_target": 2,
}  # fmt: skip


def test_a_stage_s_shortfall_is_said_when_it_is_computed_and_when_it_is_found(tmp_path):
    def said() -> str:
        console = Console(record=True, quiet=False, file=io.StringIO(), width=500)
        produce = producer(Store(root=tmp_path), RunProgress(console), lambda: None)
        for name, facts in (("train", CUT), ("initialise", CUT)):
            produce(Stage(name=name, what="target-x", config={}, inputs={}, modules=(), build=lambda *_, f=facts: f))
        return console.export_text()

    first, second = said(), said()
    assert first.count("30 of 90 labelled tokens") == second.count("30 of 90 labelled tokens") == 1
    assert "target-x" in first.split("30 of 90")[0]


@pytest.mark.parametrize(("represented", "told"), [(100, True), (200, False)])
def test_a_run_begins_by_saying_that_training_reads_further_than_the_teachers(tmp_path, represented, told):
    config = experiment(tmp_path, f"represent.max_length={represented}", "train.max_length=200")
    console = Console(record=True, file=io.StringIO(), width=500)
    run(config, RunProgress(console), store=Recorder(root=config.artifacts))
    assert ("represent.max_length=100 is less than train.max_length=200" in console.export_text()) == told


def test_a_merge_of_the_same_targets_under_another_seed_is_another_merge(tmp_path):
    config = experiment(tmp_path)
    _, first = walked(config)
    _, second = walked(replace(config, seed=config.seed + 1))  # the seed of training stays
    assert keys(first, "Targets") == keys(second, "Targets")
    assert keys(first, "Merged").keys() == keys(second, "Merged").keys()
    assert not set(keys(first, "Merged").values()) & set(keys(second, "Merged").values())
