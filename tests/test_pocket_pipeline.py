"""The whole path on the smoke experiment, through a real server: from dialogues to tables, again, swept, and killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from ablations.plan.plan import plan_of
from ablations.sweep.cells import expand
from fusion.planned import PlannedStage
from fusion.runtime.artifacts import Store
from fusion.runtime.digests import file_digest

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FUSED = ["linear", "ties", "sce"]
MODELS = [
    "pivot",
    *(f"source-{domain}" for domain in ("numbers", "arithmetic", "letters")),
    *("sft", "multi"),
    *(f"target-{domain}" for domain in ("numbers", "arithmetic", "letters")),
    *FUSED,
]


def command(artifacts: Path, reports: Path, *overrides: str) -> list[str]:
    paths = [f"paths.artifacts={artifacts}", f"paths.reports={reports}"]
    return [sys.executable, "-m", "ablations", *overrides, "experiment=pocket_smoke", *paths]


def run(artifacts: Path, reports: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(command(artifacts, reports, *overrides), cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended


def stages(artifacts: Path) -> Counter[str]:
    return Counter(stage for stage, _ in Store(root=artifacts).built())


def data_files(artifacts: Path) -> dict[str, str]:
    """Every file of the numeric stages, by its place, with its digest."""
    names = ("data", "initialise", "pretrain", "represent", "align", "fuse", "train", "merge", "answers", "verdicts")
    return {
        str(path.relative_to(artifacts)): file_digest(path)
        for stage in names
        for path in sorted((artifacts / stage).rglob("*"))
        if path.is_file()
        and path.name not in ("manifest.json", "training_log.jsonl")
        and "/." not in str(path.relative_to(artifacts))
    }


def planned(artifacts: Path, *overrides: str) -> list[PlannedStage]:
    given = ["experiment=pocket_smoke", f"paths.artifacts={artifacts}", *overrides]
    return list(plan_of(expand("ablations", given)).stages)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    where = tmp_path_factory.mktemp("smoke")
    run(where / "artifacts", where / "reports")
    return where / "artifacts", where / "reports" / "pocket_smoke"


def test_the_report_holds_every_model_in_its_group_with_both_benchmarks(finished):
    _, report = finished
    scores, items = (pd.read_csv(report / name) for name in ("scores.csv", "items.csv"))
    assert list(scores["model"].unique()) == MODELS
    assert list(scores["group"].unique()) == ["Pivot", "Sources", "Baselines", "Targets", "Merged"]
    for model, rows in scores.groupby("model"):
        ratings = rows[rows["metric"] == "rating"]
        assert {"all", "turn1", "turn2", "numbers", "arithmetic", "letters"} == set(ratings["slice"]), model
        rated = items.loc[(items["model"] == model) & (items["metric"] == "rating"), "value"]
        assert rated.between(1, 10).all()
        (whole,) = ratings.loc[ratings["slice"] == "all", "value"]
        assert whole == pytest.approx(rated.mean())
        alpaca = set(rows.loc[rows["benchmark"] == "alpaca_eval", "metric"])
        assert {
            "win_rate",
            "standard_error",
            "discrete_win_rate",
            "length_controlled_win_rate",
            "average_length",
        } <= alpaca
    for end in ("md", "csv", "tex", "html"):
        assert (report / f"leaderboard.{end}").stat().st_size > 100


def test_no_stage_ran_twice_and_answers_came_from_vllm(finished):
    artifacts, _ = finished
    built = Store(root=artifacts).built()
    assert len(built) == len(set(built))
    assert stages(artifacts)["train"] == 5
    assert stages(artifacts)["merge"] == len(FUSED)
    manifest = json.loads(next((artifacts / "answers").glob("*/manifest.json")).read_text())
    assert manifest["config"]["serve"]["type"] == "VLLM"


def test_the_plan_had_every_stage_and_afterwards_has_none_left(finished, tmp_path):
    artifacts, _ = finished
    before, after = planned(tmp_path), planned(artifacts)
    # What is made from the dialogues is known before; what is made from a model, once its bytes are there.
    first = ("data", "initialise")
    expected = {(stage, key) for stage, key in Store(root=artifacts).built() if stage in first}
    assert {(stage.stage, stage.key) for stage in before if stage.stage in first} == expected
    assert Counter(stage.stage for stage in before) == stages(artifacts)
    assert [stage for stage in after if stage.found is None] == []
    one_more = planned(artifacts, "merge=[linear,ties,sce,task_arithmetic]")
    left = Counter(stage.stage for stage in one_more if stage.found is None)
    assert left == Counter({"merge": 1, "answers": 2, "verdicts": 2})
    for stage in after:
        if stage.stage == "initialise":
            size = stage.found["facts"]["parameters"] * 4
            assert stage.work.bytes == pytest.approx(size, rel=0.15)


def test_a_second_run_computes_nothing_and_gives_the_same_table(finished, tmp_path):
    artifacts, report = finished
    before = stages(artifacts)
    started = time.monotonic()
    ended = run(artifacts, tmp_path, "tracking=wandb")
    assert time.monotonic() - started < 60
    assert len(list((artifacts / "tracking/wandb/wandb").glob("offline-run-*"))) == 1
    assert stages(artifacts) == before
    assert "0 computed" in ended.stderr
    assert (tmp_path / "pocket_smoke" / "scores.csv").read_bytes() == (report / "scores.csv").read_bytes()


def test_a_finished_run_is_quick_and_only_reads_its_store(finished, tmp_path, reading_only):
    artifacts, report = finished
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    started = time.monotonic()
    ended = reading_only([*one_core, *command(artifacts, tmp_path)], artifacts)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "0 computed" in ended.stderr
    assert time.monotonic() - started < 30  # 8 seconds where nothing else runs
    assert (tmp_path / "pocket_smoke" / "scores.csv").read_bytes() == (report / "scores.csv").read_bytes()


def test_a_sweep_over_merge_rules_trains_and_asks_nothing_again(finished, tmp_path):
    artifacts, _ = finished
    before = stages(artifacts)
    run(artifacts, tmp_path, "-m", "merge=linear,ties,sce")
    assert stages(artifacts) == before
    report = [
        sys.executable,
        "-m",
        "ablations.report",
        "cells=pocket_smoke",
        f"out={tmp_path}/sweep",
        f"paths.artifacts={artifacts}",
    ]
    ended = subprocess.run(report, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    scores = pd.read_csv(tmp_path / "sweep" / "scores.csv")
    assert {"merge", "seed", "cell"} <= set(scores.columns)
    assert sorted(scores["merge"].unique()) == sorted(FUSED)
    leaderboard = (tmp_path / "sweep" / "leaderboard.md").read_text()
    assert [leaderboard.count(f"| {name} |") for name in FUSED] == [1, 1, 1]


def test_one_more_merge_rule_runs_its_merge_and_its_evaluation_only(finished, tmp_path):
    artifacts, _ = finished
    before = stages(artifacts)
    run(artifacts, tmp_path, "merge=[linear,ties,sce,task_arithmetic]")
    assert stages(artifacts) - before == Counter({"merge": 1, "answers": 2, "verdicts": 2})


@pytest.mark.parametrize(
    ("stage", "end"),
    [("train", "interrupt"), ("merge", "kill -9"), ("verdicts", "interrupt"), ("answers", "interrupt")],
)
def test_ended_in_the_middle_of_a_stage_the_same_command_finishes_with_the_same_bytes(
    finished, tmp_path, at_terminal, stage, end
):
    artifacts, report = finished
    again = tmp_path / "artifacts"
    shutil.copytree(artifacts, again, ignore=shutil.ignore_patterns("sweeps", "logs", ".lock-*"))
    # What is content-addressed and still there stays valid, so that only the stage under test is computed again.
    lost = sorted((again / stage).glob("*/"))
    if stage == "train":
        lost = lost[:2]  # one for each lane
    if stage == "answers":
        weights = set(json.loads((report / "cell.json").read_text())["weights"].values())
        lost = [
            path for path in lost if json.loads((path / "manifest.json").read_text())["inputs"]["weights"] in weights
        ][:1]
    for path in lost:
        shutil.rmtree(path)
    started = at_terminal(command(again, tmp_path / "reports"), cwd=ROOT)
    wanted = {"train": ".partial-*/.checkpoints/checkpoint-*", "answers": ".partial-*/.answers.jsonl"}
    started.wait_until(lambda: bool(list((again / stage).glob(wanted.get(stage, ".partial-*/*")))))
    if end == "interrupt":
        status, seconds = started.interrupt()
        assert status == 130 and seconds < 5, started.said
        assert "interrupted: finished work is kept" in started.said and "Traceback" not in started.said
    else:
        started.kill()
    assert list((again / stage).glob(".partial-*")), "ended too late"
    assert no_process_works_below(again)
    before = Store(root=again).built()
    run(again, tmp_path / "reports")
    rebuilt = Store(root=again).built()[len(before) :]
    assert {name for name, _ in rebuilt} == {stage}
    assert len(rebuilt) == len(set(rebuilt)) <= len(lost)
    scores = tmp_path / "reports" / "pocket_smoke" / "scores.csv"
    assert scores.read_bytes() == (report / "scores.csv").read_bytes()
    # Another test may have merged by one rule more than this command does.
    found, expected = data_files(again), data_files(artifacts)
    assert found == {name: expected[name] for name in found}
    assert len(found) > 0.8 * len(expected)


def no_process_works_below(folder: Path, seconds: float = 30) -> bool:
    """Whether every process that names the folder on its command line ends by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
        if not [line for line in listed.splitlines() if str(folder) in line and not line.startswith("Z")]:
            return True
        time.sleep(0.2)
    return False
