"""Real sweeps of tiny cells under every launcher: one cell fails, the others finish, `resume` runs what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fusion.runtime.artifacts import Store
from fusion.runtime.digests import file_digest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LAUNCHERS = {
    "joblib": ["launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["launcher=submitit_local"],
    "ray": ["launcher=ray", "hydra.launcher.init.num_cpus=2"],
}


def command(artifacts: Path, *arguments: str) -> list[str]:
    own = ["--config-dir", str(Path(__file__).parent / "conf")]
    return [sys.executable, "-m", "ablations", *own, *arguments, f"paths.artifacts={artifacts}"]


def run(artifacts: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(artifacts, *arguments), cwd=ROOT, capture_output=True, text=True)


def finished(sweep: Path) -> dict[str, int]:
    """By cell, when its cell.json was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/cell.json")}


def assert_consistent(artifacts: Path) -> None:
    """Every stage was computed once, and what it left is what its manifest describes."""
    built = Store(root=artifacts).built()
    assert len(built) == len(set(built))
    for stage, key in built:
        manifest = json.loads((artifacts / stage / key / "manifest.json").read_text())
        for name, noted in manifest["files"].items():
            assert file_digest(artifacts / stage / key / name) == noted["sha256"]
    assert not list(artifacts.glob("*/.partial-*"))


def below(where: Path) -> list[str]:
    """The processes whose command lines or working files name this folder."""
    listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(where) in line and not line.startswith("Z")]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store in which everything but the merges of the sweeps below is computed."""
    where = tmp_path_factory.mktemp("launchers") / "artifacts"
    ended = run(where, "-m", "experiment=tiny")
    assert ended.returncode == 0, ended.stderr
    assert "cell 1 of 1" in ended.stderr
    yield where
    assert_consistent(where)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_failed_cell_stops_no_other_and_resume_runs_it_alone(artifacts, tmp_path, launcher):
    sweep, rules = tmp_path / "sweep", {"joblib": "[ties]", "submitit": "[sce]", "ray": "[task_arithmetic]"}
    # The report cannot be written where a folder has its name.
    obstacle = sweep / f"merge={rules[launcher]}" / "scores.csv"
    obstacle.mkdir(parents=True)
    axes = f"merge=[linear],{rules[launcher]}"
    ended = run(artifacts, "-m", "experiment=tiny", axes, f"hydra.sweep.dir={sweep}", *LAUNCHERS[launcher])
    assert ended.returncode == 1, ended.stderr
    assert "failed cells" in ended.stderr and "IsADirectoryError" in ended.stderr
    before = finished(sweep)
    assert list(before) == ["merge=[linear]"]
    failed = json.loads((obstacle.parent / "failed.json").read_text())
    assert failed["name"] == f"merge={rules[launcher]}" and f"merge={rules[launcher]}" in failed["overrides"]
    assert failed["reason"].startswith("IsADirectoryError") and "write_report" in failed["traceback"]

    obstacle.rmdir()
    ended = run(artifacts, f"resume={sweep}")
    assert ended.returncode == 0, ended.stderr
    assert "1 of 2 cells are finished; 1 to run" in ended.stderr
    after = finished(sweep)
    assert set(after) == {"merge=[linear]", f"merge={rules[launcher]}"}
    assert after["merge=[linear]"] == before["merge=[linear]"]
    assert not (obstacle.parent / "failed.json").exists()
    assert json.loads((obstacle.parent / "progress.json").read_text())["state"] == "finished"
    assert below(sweep) == []


def test_a_killed_cell_has_failed_and_another_launcher_resumes_it(artifacts, tmp_path):
    sweep = tmp_path / "sweep"
    arguments = ["-m", "experiment=tiny", "merge=[linear],[dare]", f"hydra.sweep.dir={sweep}", *LAUNCHERS["joblib"]]
    process = subprocess.Popen(command(artifacts, *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    noted = sweep / "merge=[dare]" / "progress.json"
    deadline = time.monotonic() + 300
    while not noted.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(json.loads(noted.read_text())["pid"], signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert "SIGKILL" in json.loads((noted.parent / "failed.json").read_text())["reason"]
    assert list(finished(sweep)) == ["merge=[linear]"]

    ended = run(artifacts, f"resume={sweep}", "launcher=basic")
    assert ended.returncode == 0, ended.stderr
    assert set(finished(sweep)) == {"merge=[linear]", "merge=[dare]"}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_interrupt_ends_a_sweep_and_resume_runs_what_is_missing(artifacts, tmp_path, at_terminal, launcher):
    sweep = tmp_path / "sweep"
    axes = {"joblib": "seed=11,12", "submitit": "seed=13,14", "ray": "seed=15,16"}[launcher]
    arguments = ["-m", "experiment=tiny", axes, f"hydra.sweep.dir={sweep}", *LAUNCHERS[launcher]]
    started = at_terminal(command(artifacts, *arguments), cwd=ROOT)
    started.wait_until(lambda: len(list(sweep.glob("*/progress.json"))) == 2)
    status, seconds = started.interrupt()
    assert status == 130 and seconds < 6, started.said
    assert "interrupted: finished work is kept" in started.said and f"resume={sweep}" in started.said
    assert "Traceback" not in started.said
    assert below(sweep) == [] and finished(sweep) == {}


def test_two_sweeps_started_at_once_compute_no_stage_twice(artifacts, tmp_path):
    before = Store(root=artifacts).built()
    manifests = [json.loads(path.read_text()) for path in artifacts.glob("answers/*/manifest.json")]
    known = {manifest["inputs"]["weights"] for manifest in manifests}
    started = [
        subprocess.Popen(
            command(
                artifacts, "-m", "experiment=tiny", "merge=[varm],[slerp]", f"hydra.sweep.dir={tmp_path / name}", *ways
            ),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, ways in {"a": LAUNCHERS["joblib"], "b": ["launcher=basic"]}.items()
    ]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said
    # One merge and the verdicts on one benchmark for each rule, whichever sweep was first; and answers for weights that
    # no model had before, which two rules may share.
    new = [stage for stage, _ in Store(root=artifacts).built()[len(before) :]]
    cells = [tmp_path / "a" / f"merge=[{rule}]" / "cell.json" for rule in ("varm", "slerp")]
    weights = {
        json.loads(cell.read_text())["weights"][rule] for cell, rule in zip(cells, ("varm", "slerp"), strict=True)
    }
    assert sorted(new) == sorted([*2 * ["merge", "verdicts"], *len(weights - known) * ["answers"]])
    for rule in ("varm", "slerp"):
        a, b = ((tmp_path / name / f"merge=[{rule}]" / "scores.csv").read_bytes() for name in "ab")
        assert a == b


def test_a_sweep_of_which_no_cell_could_run_is_refused_before_any_is_launched(tmp_path):
    ended = run(tmp_path, "-m", "experiment=tiny", "train.lm_weight=2,3")
    assert ended.returncode == 2, ended.stderr
    assert "lm_weight is 2.0: expected 0 to 1" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob("progress.json"))


def test_a_sweep_all_of_whose_failures_were_refusals_ends_with_status_2(tmp_path):
    # How many different questions there are only the writing of them can say.
    ended = run(tmp_path, "-m", "experiment=tiny", "data.pocket.questions=80000,90000")
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    watched = subprocess.run(
        [sys.executable, "-m", "ablations.watch", "cells=tiny", f"paths.artifacts={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "2 cells: 2 failed" in watched.stdout
    assert "different dialogues" in watched.stdout


def test_cells_that_would_share_a_folder_are_refused_before_any_is_launched(tmp_path):
    before = psutil.Process().children(recursive=True)
    ended = run(tmp_path, "-m", "experiment=tiny,pocket_smoke")
    assert ended.returncode == 2
    assert "would share the folder" in ended.stderr
    assert not list(tmp_path.rglob("progress.json"))
    assert psutil.Process().children(recursive=True) == before
