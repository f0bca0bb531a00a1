"""A plan has the stages a run would have, each once, and what they take; and a budget stops what exceeds it."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from ablations.plan.plan import before_start, hold, plan_of
from ablations.plan.rates import Rate, Rates
from ablations.plan.record import Budget, Plan
from ablations.plan.table import print_plan, write_plan
from ablations.rates import measured
from ablations.sweep.cells import expand
from fusion.models import ModelConfig
from fusion.planned import Book, PlannedStage, PlanningStore
from fusion.pocket.dialogues import PocketData
from fusion.pocket.questions import write_dialogues
from fusion.runtime.artifacts import Store
from fusion.runtime.command import compose, group_names
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.digests import file_digest
from fusion.runtime.given_model import located
from fusion.runtime.work import Dialogues, Work


def plan(artifacts, *overrides: str, multirun: bool = False, experiment: str = "pocket_smoke") -> Plan:
    given = [f"experiment={experiment}", f"paths.artifacts={artifacts}", *overrides]
    return plan_of(expand("ablations", given, multirun=multirun))


def computed(found: Plan) -> dict[str, int]:
    return {line.stage: line.compute for line in found.lines if line.compute}


def finish(found: Plan, artifacts) -> None:
    """Leave what a run would: manifests of other files each, and the dialogues, from which keys are known."""
    for stage in [stage for stage in found.stages if stage.found is None]:
        path = artifacts / stage.stage / stage.key
        path.mkdir(parents=True)
        files = {"fusion.jsonl": {"bytes": 1, "sha256": stage.key}}
        if stage.stage == "data":
            data = compose("ablations", ["experiment=pocket_smoke"])["data"]["pocket"]
            write_dialogues(typed(data, PocketData), path)
            written = [file for file in path.rglob("*") if file.is_file()]
            files = {str(file.relative_to(path)): {"bytes": 1, "sha256": file_digest(file)} for file in written}
        (path / "manifest.json").write_text(json.dumps({"files": files}))


# The four models, three sources of which are fused one by one and all at once; two benchmarks on every model.
SMOKE = {
    "data": 1,
    "initialise": 4,
    "pretrain": 4,
    "represent": 4,
    "align": 3,
    "fuse": 3 + 1,
    "train": 3 + 1 + 1,
    "merge": 3,
    "answers": 2 * (4 + 5 + 3),
    "verdicts": 2 * (4 + 5 + 3),
}


def test_on_an_empty_store_everything_is_to_be_computed_and_nothing_is_left_there(tmp_path):
    artifacts = tmp_path / "artifacts"
    assert computed(plan(artifacts)) == SMOKE
    assert not artifacts.exists()


def test_a_judge_of_our_own_is_planned_without_a_trace_and_both_looks_of_a_panel_are_counted(tmp_path):
    weights, artifacts = tmp_path / "judge", tmp_path / "artifacts"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    served = f"{{name: served, checkpoint: {weights}}}"
    panel = ["judge=panel", "judge.layers=2", f"judge.members={{a: {served}, b: {{name: openai, model: far}}}}"]
    found = plan(artifacts, *panel)
    assert computed(found)["verdicts"] == 2 * 2 * SMOKE["verdicts"]
    units = {(stage.what, stage.work.units) for stage in found.stages if stage.stage == "verdicts"}
    assert len(units) == 2 * SMOKE["verdicts"]  # as many replies at the second look as at the first
    assert sum(charge.estimate.replies for charge in found.charges) == 2 * sum(replies for _, replies in units)
    assert not artifacts.exists()


def test_what_is_there_is_reused_and_one_more_merge_rule_is_a_merge_and_its_evaluation(tmp_path):
    finish(plan(tmp_path), tmp_path)
    finish(plan(tmp_path), tmp_path)  # what verdicts are on is known once the answers are there
    again = plan(tmp_path, "merge=[linear,ties,sce,task_arithmetic]")
    assert computed(again) == {"merge": 1, "answers": 2, "verdicts": 2}
    assert {line.stage: line.reused for line in again.lines} == SMOKE


def test_what_cells_share_is_counted_once(tmp_path):
    swept = plan(tmp_path, "align=em,mined", multirun=True)
    assert len(swept.cells) == 2
    # Fine-tuning on the labels alone is the same in both; targets, Multi and merges are not.
    assert computed(swept) == SMOKE | {
        "align": 2 * 3,
        "fuse": 2 * 4,
        "train": 1 + 2 * 4,
        "merge": 2 * 3,
        "answers": 2 * (4 + 1 + 2 * (4 + 3)),
        "verdicts": 2 * (4 + 1 + 2 * (4 + 3)),
    }


@pytest.mark.parametrize(
    ("represented", "trained", "lm_weight", "told"),
    [(100, 101, 0.5, True), (100, 100, 0.5, False), (2048, 1024, 0.0, False), (100, 2048, 1.0, False)],
)
def test_a_plan_says_once_where_training_reads_further_than_the_teachers(
    tmp_path, represented, trained, lm_weight, told
):
    lengths = [f"represent.max_length={represented}", f"train.max_length={trained}", f"train.lm_weight={lm_weight}"]
    found = plan(tmp_path, *lengths, "merge=linear,sce", multirun=True)
    said = [note for note in found.notes if "no fused target" in note]
    assert len(said) == told
    if told:
        assert f"represent.max_length={represented} is less than train.max_length={trained}" in said[0]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Plan:
    """The paper's experiment, without weights, dialogues and question files."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    return plan(nowhere, f"paths.data={nowhere}", experiment="fusechat_7b_v2")


def test_the_papers_experiment_is_planned_without_weights_or_data(published):
    assert computed(published) == {
        "data": 1,
        "download": 6,
        "represent": 6,
        "align": 5,
        "fuse": 5 + 1,
        "train": 5 + 1 + 1,
        "merge": 5,
        "answers": 2 * (6 + 7 + 5),
        "perplexity": 2 * 6,
        "verdicts": 2 * (6 + 7 + 5),
    }
    by_stage = {line.stage: line for line in published.lines}
    # Three epochs of 95,000 dialogues of 600 tokens, 6 operations a parameter of 7.24 B, and two minutes' start.
    hours = 7 * (6 * 7.24e9 * 3 * 95_000 * 600 / 3.7e13 + 120) / 3600
    assert by_stage["train"].gpu_hours == pytest.approx(hours)
    assert by_stage["train"].estimated
    assert by_stage["merge"].bytes == pytest.approx(5 * 4 * 7.24e9)  # in the targets' fp32; the pivot is bf16
    assert by_stage["download"].bytes == pytest.approx(2 * (2 * 7.24 + 10.7 + 19.9 + 46.7 + 72.3) * 1e9)


@pytest.mark.parametrize(
    ("overrides", "each"),
    [
        (["merged.dtype=bfloat16"], 2),
        (["train.save_dtype=bfloat16"], 2),
        (["train.save_dtype=bfloat16", "merged.dtype=float32"], 4),
    ],
)
def test_a_merged_models_bytes_follow_the_type_it_is_written_in(overrides, each, tmp_path):
    less = ["sources=[starling_7b_alpha]", "baselines=[]", "merge=[sce]", "ensembles=[]", f"paths.data={tmp_path}"]
    found = plan(tmp_path, *less, *overrides, experiment="fusechat_7b_v2")
    (merged,) = (line.bytes for line in found.lines if line.stage == "merge")
    assert merged == pytest.approx(each * 7.24e9)


def test_a_server_holds_weights_in_the_type_that_it_computes_in(published):
    """vLLM takes fp32 down to bf16: a merged model of 7.24 B takes 29 GB on disk and 14.5 GB in a server."""
    sizes = {stage.work.holds for stage in published.stages if stage.stage == "answers" and "sce" in stage.what}
    assert [*sizes] == pytest.approx([2 * 7.24e9])


def test_judging_is_counted_in_replies_tokens_and_money(published):
    by_benchmark = {charge.benchmark: charge for charge in published.charges}
    assert by_benchmark["mt_bench"].estimate.replies == 18 * 160
    assert by_benchmark["alpaca_eval"].estimate.replies == 18 * 805
    for charge in by_benchmark.values():
        tokens = charge.estimate
        assert charge.money == pytest.approx((10 * tokens.prompt_tokens + 30 * tokens.completion_tokens) / 1e6)
    # alpaca-eval's authors state about 10 dollars a model with this judge.
    assert 8 < by_benchmark["alpaca_eval"].money / 18 < 13


def test_estimates_and_what_is_not_known_are_said(published, capsys, tmp_path):
    print_plan(published)
    printed = capsys.readouterr().out
    assert "~391 h" in printed  # 7 times 56 hours, as above
    assert "mt_bench: counted as published" in printed
    write_plan(published, tmp_path)
    written = json.loads((tmp_path / "plan.json").read_text())
    assert Counter(stage["stage"] for stage in written["stages"]) == computed(published)
    assert written["totals"]["money"] == pytest.approx(sum(charge.money for charge in published.charges))


def test_questions_that_are_not_there_are_planned_about_as_those_that_are(published, data_root, tmp_path):
    fewer = ["sources=[starling_7b_alpha]", "baselines=[]", "merge=[sce]", "ensembles=[]"]
    there = plan(tmp_path, f"paths.data={data_root}", *fewer, experiment="fusechat_7b_v2")
    for known, guessed in zip(there.charges, published.charges, strict=True):
        assert known.estimate.replies / 4 == guessed.estimate.replies / 18
        tokens = known.estimate.prompt_tokens / 4
        assert guessed.estimate.prompt_tokens / 18 == pytest.approx(tokens, rel=0.05)


@pytest.mark.parametrize("name", ["gpu_hours", "cpu_hours", "disk_gb", "judge_tokens", "money"])
def test_a_budget_that_would_be_exceeded_is_refused_with_the_way_out(published, name):
    taken = published.takes()[name]
    for share in (1.0, 1.01):
        hold(published, Budget(**{name: taken * share}))
    for share in (0.5, 0.75, 0.9, 0.999):
        with pytest.raises(
            Refusal, match=rf"budget\.{name} is .* would take about .* raise it with budget\.{name}="
        ) as found:
            hold(published, Budget(**{name: taken * share}))
    hold(published, Budget(**{name: float(str(found.value).split(f"budget.{name}=")[1].split(",")[0])}))


def test_the_disk_of_a_plan_is_what_stays_and_what_every_lane_holds_meanwhile(published, tmp_path):
    # While a target is trained checkpoints to resume from are there, fp32 weights and Adam's two moments: the two that
    # are kept, and a third while it is written.
    working = 3 * 7.24e9 * 3 * 4
    stays = sum(line.bytes for line in published.lines)
    assert published.takes()["disk_gb"] == pytest.approx((stays + working) / 1e9)
    three = plan(tmp_path, f"paths.data={tmp_path}", "lanes=3", experiment="fusechat_7b_v2")
    assert three.takes()["disk_gb"] == pytest.approx((stays + 3 * working) / 1e9)


def test_money_that_nobody_knows_is_no_money_within_a_budget(published):
    unpriced = replace(published, charges=tuple(replace(charge, money=None) for charge in published.charges))
    with pytest.raises(Refusal, match=r"gpt-4-0125-preview, gpt-4-1106-preview has no price"):
        hold(unpriced, Budget(money=1e6))


def test_a_sweep_over_budget_is_refused_before_its_first_cell(tmp_path):
    given = ["-m", "experiment=pocket_smoke", "seed=0,1", f"paths.artifacts={tmp_path}/artifacts"]
    with pytest.raises(Refusal, match=r"budget\.cpu_hours is 0\.0001 and 2 cells would take"):
        before_start([*given, "budget.cpu_hours=0.0001"])
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("name", group_names("rates"))
def test_every_rate_says_whether_it_was_measured(name):
    rates = typed(compose("ablations", [f"rates={name}"])["rates"], Rates)
    for kind in ("train", "represent", "answers", "merge", "align", "fuse", "dialogues", "initialise", "verdicts"):
        rate = rates.of(kind)
        assert rate is not None
        assert rate.source.startswith(("measured: ", "estimated: "))


def rate(per_second: float) -> Rate:
    return Rate(per_second=per_second, source="measured: test")


def test_measured_rates_give_back_what_the_stages_took():
    def stage(kind: str, units: float, seconds: float, size: int) -> PlannedStage:
        found = {"wall_seconds": seconds, "files": {"a": {"bytes": size}}}
        work = Work(kind=kind, units=units, items=units, bytes=100)
        return PlannedStage(stage=kind, key=f"{kind}{units}", what="", work=work, found=found)

    kinds = ("dialogues", "initialise", "represent", "align", "fuse", "merge", "answers", "verdicts")
    others = [stage(kind, 10, 5, 130) for kind in kinds]
    # Two seconds' start and four units a second; 100 bytes of weights and three an item.
    trained = [stage("train", units, 2 + units / 4, 100 + 3 * units) for units in (8, 40)]
    rates = measured([*others, *trained], "a machine", "test")
    assert (rates.train.start, rates.train.per_second, rates.train.bytes_each) == pytest.approx((2, 4, 3))
    assert (rates.fuse.start, rates.fuse.per_second) == pytest.approx((0, 2))
    assert 3600 * (rates.hours(trained[1].work) or 0) == pytest.approx(12)
    assert rates.bytes(trained[1].work) == pytest.approx(220)
    with pytest.raises(Refusal, match="no finished stage tells the rate of train"):
        measured(others, "a machine", "test")


def test_a_model_larger_than_a_gpu_holds_several():
    one = rate(1e12)
    others = ("dialogues", "initialise", "align", "fuse", "merge", "verdicts", "train", "answers")
    rest = dict.fromkeys(others, one)
    rates = Rates(machine="a node", gpu_memory_gb=40, represent=one, **rest)
    work = Work(kind="represent", units=3.6e15, holds=144e9)  # an hour of one GPU; 1.2 x 144 GB are five of 40
    assert rates.hours(work) == pytest.approx(5)
    assert rates.hours(replace(work, holds=14e9)) == pytest.approx(1)
    # All five wait while the model is loaded; then representing uses one after the other, a server all at once.
    starting = replace(one, start=360)
    slow = replace(rates, represent=starting, answers=starting)
    assert slow.hours(work) == pytest.approx(5 + 5 * 0.1)
    assert slow.hours(replace(work, kind="answers")) == pytest.approx(1 + 5 * 0.1)


def planning(root, scratch) -> PlanningStore:
    none = Dialogues(count=0, tokens=0, labelled=0, written=0)
    return PlanningStore(root=root, scratch=scratch, book=Book(), dialogues=none)


def test_a_model_on_this_disk_has_the_key_that_a_run_gives_it(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"0" * 1000)
    model = ModelConfig(label="own", path=str(weights), chat_template="openchat_3.5")
    store = planning(tmp_path / "store", tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    _, key = store.locate(model, store.root)
    assert not store.root.exists()
    assert key == located(model, Store(root=tmp_path / "other").root)[1]
    assert store.book.sizes[key].parameters == 500  # two bytes each


def test_a_model_that_is_nowhere_must_say_how_large_it_is(tmp_path):
    store = planning(tmp_path, tmp_path)
    with pytest.raises(
        Refusal, match=r"no-such-owner/no-such-model is not on this disk.*hf download.*parameters: 7.2e9"
    ):
        store.locate(ModelConfig(label="far", path="no-such-owner/no-such-model"), tmp_path)
