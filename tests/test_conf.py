"""Every file under conf/ composes, is typed, and names an entry of its table; and every table's entry has its file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablations.tracking import TRACKERS, tracker_from
from eval.benchmarks import BENCHMARKS
from eval.config import eval_config
from eval.ensembles import ENSEMBLES
from eval.judges import JUDGES
from eval.scores.intervals import Uncertainty
from eval.serve import SERVERS
from fusion.align import ALIGNMENT_SCHEMES
from fusion.fuse import FUSION_RULES
from fusion.merge import MERGE_RULES
from fusion.pipeline import fusion_config
from fusion.runtime.command import compose, group_names
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.places import CONF
from fusion.train.objectives import OBJECTIVES

ROOT = Path(__file__).parent.parent
EXPERIMENTS = group_names("experiment")
# What an entry cannot know and asks for.
REQUIRED = {
    ("data", "files"): ["data.files=[dialogues.jsonl]"],
    ("data", "hub"): ["data.dataset=owner/name"],
    ("judge", "recorded"): ["judge.file=judgments.jsonl"],
    ("judge", "served"): ["judge.checkpoint=directory"],
    ("judge", "panel"): ["judge.members={a:{name:reference},b:{name:openai,model:m}}"],
    ("ensembles", "top1_pairrm"): ["ensembles.top1_pairrm.file=scores.jsonl"],
}


def settings(*overrides: str) -> dict:
    return compose("ablations", list(overrides))


def test_the_experiments_that_are_relied_upon_are_there():
    assert {"pocket", "pocket_smoke", "small_gpu", "fusechat_7b_v1", "fusechat_7b_v2"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_is_typed(experiment):
    composed = settings(f"experiment={experiment}")
    config = fusion_config(composed)
    assert config.name == experiment
    assert eval_config(composed).benchmarks


@pytest.mark.parametrize(
    "group",
    ["data", "align", "fuse", "train", "objective", "merge", "serve", "benchmark", "judge", "ensembles", "launcher"],
)
def test_every_entry_of_a_group_composes_and_is_typed(group):
    for name in group_names(group):
        given = REQUIRED.get((group, name), [])
        composed = settings(f"{group}={name}", *given)
        fusion_config(composed)
        eval_config(composed)


@pytest.mark.parametrize("name", group_names("tracking"))
def test_every_tracker_composes_and_is_typed(name):
    assert type(tracker_from(settings(f"tracking={name}"))) is TRACKERS[name]


@pytest.mark.parametrize("name", group_names("model"))
def test_every_model_can_be_a_pivot(name):
    other = "starling_7b_alpha" if name != "starling_7b_alpha" else "openchat_3_5"
    config = fusion_config(settings("experiment=small_gpu", f"pivot={name}", f"sources=[{other}]"))
    assert config.models[name].label


def test_a_share_of_the_dialogues_is_used_and_of_files_no_more_than_all():
    whole, half = (
        fusion_config(settings("experiment=pocket", *given)).data.fusion for given in ([], ["data_share=0.5"])
    )
    assert half == whole / 2
    with pytest.raises(Refusal, match="data_share is 2.0"):
        fusion_config(settings("experiment=fusechat_7b_v2", "data_share=2.0"))


def test_a_share_of_the_steps_is_trained_counted_in_steps_or_in_epochs():
    pocket, real = "experiment=pocket", "experiment=fusechat_7b_v2"
    assert fusion_config(settings(real, "steps_share=0.5")).train.epochs == 1.5
    whole, half = (fusion_config(settings(pocket, *given)) for given in ([], ["steps_share=0.5"]))
    assert half.train.max_steps == whole.train.max_steps / 2
    assert half.models == whole.models  # the pivot and the sources are what they were


@pytest.mark.parametrize(
    ("overrides", "roles"),
    [
        ([], ["pocket_pivot", "pocket_numbers", "pocket_arithmetic", "pocket_letters"]),
        (["pivot_choice=2"], ["pocket_arithmetic", "pocket_numbers", "pocket_pivot", "pocket_letters"]),
        (["source_count=1"], ["pocket_pivot", "pocket_numbers"]),
    ],
)
def test_another_model_is_the_pivot_or_fewer_are_sources_by_one_value(overrides, roles):
    config = fusion_config(settings("experiment=pocket", *overrides))
    assert [config.pivot, *config.sources] == roles


@pytest.mark.parametrize(
    ("group", "table"),
    [
        ("align", ALIGNMENT_SCHEMES),
        ("fuse", FUSION_RULES),
        ("merge", MERGE_RULES),
        ("objective", OBJECTIVES),
        ("serve", SERVERS),
        ("judge", JUDGES),
        ("ensembles", ENSEMBLES),
        ("tracking", TRACKERS),
    ],
)
def test_every_choice_of_a_table_has_its_file(group, table):
    assert set(table) <= set(group_names(group))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_chosen_by_its_name_as_a_group_or_as_a_value(name):
    chosen = [
        fusion_config(settings(spelling)).train.objective
        for spelling in (f"objective={name}", f"train.objective={name}")
    ]
    assert chosen == [OBJECTIVES[name](), OBJECTIVES[name]()]
    with_settings = settings(f"objective={name}", "train.objective.temperature=2")
    assert fusion_config(with_settings).train.objective == OBJECTIVES[name](temperature=2.0)


def test_every_kind_of_benchmark_has_an_entry():
    names = {
        entry["name"]
        for name in group_names("benchmark")
        for entry in settings(f"benchmark={name}")["benchmark"].values()
    }
    assert names == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("merg=ties", "did you mean 'merge'"),
        ("merge=tis", "did you mean 'ties'"),
        ("merge.ties.densty=0.1", "did you mean 'merge.ties.density'"),
        ("train.lm_wieght=0.1", "did you mean 'train.lm_weight'"),
        ("experiment=poket", "did you mean 'pocket'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_valid_one(override, message):
    with pytest.raises(Refusal, match=message):
        settings(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", "train.epochs is 'many'"),
        ("train.lm_weight=2", "lm_weight is 2.0: expected 0 to 1"),
        ("train.objective=kx", "objective 'kx' is not in conf/objective: valid names: ce, kl"),
        ("train.objective.name=kx", "train.objective.name is 'kx': valid names: ce, kl"),
        ("train.objective.temperature=0", "train.objective: temperature is 0.0: expected more than 0"),
        ("train.objective.tail=buckt", "did you mean 'bucket'"),
        ("align.reading=papr", "did you mean 'paper'"),
        ("+train.rate=1", "unknown key 'train.rate'"),
        ("pivot=openchat", "did you mean 'openchat_3_5'"),
        ("sources=[]", "sources is empty"),
        ("sources=[pocket_pivot]", "among the sources"),
        (
            "pivot_choice=4",
            "pivot_choice is 4: expected 0 to 3, the number of sources; a sweep over all is pivot_choice=0,1,2,3",
        ),
        ("source_count=0", "source_count is 0: expected 1 to 3"),
        ("teacher=pivt", "did you mean 'pivot'"),
        ("steps_share=0", "steps_share is 0.0: expected more than 0"),
        ("draw=-1", "draw is -1: expected 0 or more"),
    ],
)
def test_a_mistyped_value_is_refused_with_what_was_expected(override, message):
    with pytest.raises(Refusal, match=message):
        fusion_config(settings(override))


@pytest.mark.parametrize("root", ["ablations", "eval", "report", "agreement"])
def test_a_number_of_resamples_is_refused_because_intervals_draw_nothing(root):
    given = ["cells=c", "out=o"] if root == "report" else ["verdicts=[a]", "out=o"] if root == "agreement" else []
    with pytest.raises(Refusal, match=r"report\.resamples"):
        compose(root, [*given, "report.resamples=200"])
    added = compose(root, [*given, "+report.resamples=200"])  # as an experiment's own file does
    with pytest.raises(Refusal, match=r"unknown key 'report\.resamples': valid names: confidence, seed"):
        eval_config(added) if root in ("ablations", "eval") else typed(added["report"], Uncertainty, at="report")


def test_a_refusal_is_one_message_on_stderr_and_status_2():
    command = [sys.executable, "-m", "fusion", "experiment=poket"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert (
        ended.stderr == "refused: experiment=poket: there is no such entry in conf/experiment: did you mean 'pocket'?\n"
    )


def test_no_yaml_stands_outside_a_root_or_a_group():
    roots = {
        "ablations",
        "agreement",
        "audit",
        "benchmark_data",
        "eval",
        "fusion",
        "measure_rates",
        "merge_recipe",
        "model_card",
        "regression",
        "report",
        "shared",
        "watch",
    }
    lists = {"benchmark_files"}
    assert {path.stem for path in CONF.glob("*.yaml")} <= roots | lists
