"""What a sweep's cells leave for its parent and for watchers, and what the view makes of it."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from rich.console import Console

from ablations.sweep.files import (
    CellState,
    SweepCell,
    fail,
    forget,
    keeping_progress,
    labels,
    next_step,
    read_cells,
    state_of,
    write_cells,
)
from ablations.sweep.launch import resumed
from ablations.sweep.view import CellsTable, failures_table
from fusion.runtime.artifacts import Store
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Stage


def cell_in(sweep, name: str, *overrides: str) -> SweepCell:
    return SweepCell(name=name, overrides=("experiment=tiny", *overrides), folder=sweep / name)


def drawn(what) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_the_cells_of_a_sweep_are_found_again_where_its_folder_was_moved(tmp_path):
    (tmp_path / "here").mkdir()
    cells = [cell_in(tmp_path / "here", "seed=0", "seed=0"), cell_in(tmp_path / "here", "seed=1", "seed=1")]
    write_cells(tmp_path / "here", cells)
    (tmp_path / "here").rename(tmp_path / "there")
    found = read_cells(tmp_path / "there")
    assert [one.folder for one in found] == [tmp_path / "there" / name for name in ("seed=0", "seed=1")]
    assert [one.overrides for one in found] == [one.overrides for one in cells]
    assert labels(found) == {"seed=0": "seed=0", "seed=1": "seed=1"}
    with pytest.raises(Refusal, match=r"no cells.json"):
        read_cells(tmp_path)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["finished", "finished"], "ablations.report"),
        (["finished", "running"], "ablations.watch"),
        (["failed", "running"], "ablations.watch"),  # it can be taken up when all have ended
        (["failed", "finished"], "resume="),
        (["stopped", "waiting"], "resume="),
    ],
)
def test_the_next_command_goes_on_from_where_a_sweep_is(tmp_path, states, said):
    cells = [cell_in(tmp_path, f"seed={n}", f"seed={n}") for n in range(len(states))]
    found = [CellState(cell=c, state=s, progress=None, failure=None) for c, s in zip(cells, states, strict=True)]
    command = " ".join(next_step(tmp_path, found))
    assert said in command
    assert str(tmp_path) in command


def test_a_cell_waits_runs_and_finishes(tmp_path):
    cell, shown = cell_in(tmp_path, "a"), RunProgress()
    assert state_of(cell).state == "waiting"
    with keeping_progress(cell, shown):
        assert state_of(cell).state == "running"
        with shown.stage("train", "target-a") as bar:
            bar.advance(3, 7)
            deadline = time.monotonic() + 20
            while state_of(cell).progress.done != 3:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert state_of(cell).progress.total == 7
            assert "train target-a 3/7" in drawn(CellsTable([cell]))
            stage = Stage(name="train", what="a", config=1, inputs={}, modules=(), build=lambda out, advance: None)
            bar.finished(Store(root=tmp_path).produce(stage))
        (cell.folder / "cell.json").write_text("{}")
    assert state_of(cell).state == "finished"
    noted = json.loads((cell.folder / "progress.json").read_text())
    assert (noted["state"], noted["computed"], noted["reused"]) == ("finished", 1, 0)


def test_an_error_is_left_in_the_cell_s_folder_and_goes_no_further(tmp_path):
    cell, shown = cell_in(tmp_path, "a", "merge=[b]"), RunProgress()
    with keeping_progress(cell, shown), shown.stage("merge", "linear"):
        raise ZeroDivisionError("division [bold]by[/] zero")
    state = state_of(cell)
    assert state.state == "failed"
    assert state.failure.reason == "ZeroDivisionError: division [bold]by[/] zero"
    assert state.failure.where == "merge linear"
    assert not state.failure.refused
    assert "in test_an_error" in state.failure.traceback
    assert "division [bold]by[/] zero" in drawn(failures_table([state]))  # shown as it is, not as markup
    forget(cell)
    assert state_of(cell).state == "waiting"


def test_an_interruption_goes_on_and_is_no_failure(tmp_path):
    cell = cell_in(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), keeping_progress(cell, RunProgress()):
        raise KeyboardInterrupt
    assert not (cell.folder / "failed.json").exists()
    assert state_of(cell).state == "running"  # as long as this process lives
    assert json.loads((cell.folder / "progress.json").read_text())["state"] == "running"


def test_a_refusal_is_distinguishable_from_other_errors(tmp_path):
    cell = cell_in(tmp_path, "a")
    fail(cell, "no", error=Refusal("no"))
    assert state_of(cell).failure.refused


def test_a_cell_whose_process_is_gone_has_stopped(tmp_path):
    cell = cell_in(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), keeping_progress(cell, RunProgress()):
        raise KeyboardInterrupt
    noted = json.loads((cell.folder / "progress.json").read_text())

    def say(**changes):
        (cell.folder / "progress.json").write_text(json.dumps({**noted, **changes}))

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    say(pid=gone.pid)
    assert state_of(cell).state == "stopped"
    say(started=noted["started"] - 10**9)  # this process is younger than the cell: its number was given away
    assert state_of(cell).state == "stopped"
    say(host="another machine", updated=time.time() - 10)
    assert state_of(cell).state == "running"
    say(host="another machine", updated=time.time() - 600)
    assert state_of(cell).state == "stopped"
    assert noted["pid"] == os.getpid()


def test_a_low_terminal_shows_what_failed_or_runs_before_what_waits(tmp_path):
    cells = [cell_in(tmp_path, f"seed={seed}", f"seed={seed}") for seed in range(30)]
    cells[20].folder.mkdir()
    fail(cells[20], "for a reason")
    text = drawn(CellsTable(cells, height=3))
    assert "seed=20" in text and "for a reason" in text
    assert "seed=0" in text and "seed=5" not in text
    assert "30 cells: 1 failed, 29 waiting" in text


MULTIRUN = """
hydra:
  job: {config: {override_dirname: {exclude_keys: [experiment, study, lanes, launcher, resume, paths.artifacts]}}}
  overrides:
    task: [experiment=tiny, "merge=[linear],[ties]", launcher=joblib, lanes=1]
    hydra: [hydra.launcher.n_jobs=4, hydra.mode=MULTIRUN]
"""


def test_a_sweep_is_resumed_with_what_it_was_started_with(tmp_path):
    for name in ("20260101-000000", "20260102-000000"):
        (tmp_path / "sweeps/tiny" / name).mkdir(parents=True)
        (tmp_path / "sweeps/tiny" / name / "multirun.yaml").write_text(MULTIRUN)
    newest = tmp_path / "sweeps/tiny/20260102-000000"
    paths = f"paths.artifacts={tmp_path}"
    assert resumed(["resume=tiny", paths]) == [
        "experiment=tiny", "merge=[linear],[ties]", "launcher=joblib", "lanes=1",
        "hydra.launcher.n_jobs=4", "hydra.mode=MULTIRUN", paths, f"resume='{newest}'",
    ]  # fmt: skip
    # Another launcher has other settings; flags come first, where Hydra takes them.
    assert resumed(["--config-dir=x", f"resume={newest}", "launcher=ray"]) == [
        "--config-dir=x", "experiment=tiny", "merge=[linear],[ties]", "lanes=1", "hydra.mode=MULTIRUN", "launcher=ray",
        f"resume='{newest}'",
    ]  # fmt: skip
    assert resumed(["experiment=tiny", "-m"]) == ["experiment=tiny", "-m"]


def test_resuming_refuses_what_would_make_other_cells_and_what_is_no_sweep(tmp_path):
    (tmp_path / "multirun.yaml").write_text(MULTIRUN)
    with pytest.raises(Refusal, match=r"seed=1 would make others: expected none but lanes, launcher"):
        resumed([f"resume={tmp_path}", "seed=1"])
    (tmp_path / "multirun.yaml").unlink()
    with pytest.raises(Refusal, match=r"no multirun.yaml"):
        resumed([f"resume={tmp_path}"])
    with pytest.raises(Refusal, match=r"neither a directory nor a sweep"):
        resumed(["resume=nothing", f"paths.artifacts={tmp_path}"])


def test_what_a_reader_sees_of_a_cell_is_what_it_does_not_share(tmp_path):
    cells = [
        SweepCell(name=str(n), overrides=("experiment=tiny", f"merge=[{n}]", "seed=0"), folder=tmp_path) for n in (1, 2)
    ]
    assert labels(cells) == {"1": "merge=[1]", "2": "merge=[2]"}
    assert labels([dataclasses.replace(cells[0], name="alone")]) == {"alone": "experiment=tiny merge=[1] seed=0"}


PROGRESS = {"name": "a", "state": "running", "started": 0.0, "updated": 0.0, "host": "h", "pid": 1}
DAMAGED = {
    "empty": b"",
    "cut": b'{"name": "a", "sta',
    "not UTF-8": b"\xff\xfe{}",
    "null bytes": bytes(40),
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "nothing of it": b"{}",
    "a key of another version": json.dumps({**PROGRESS, "colour": "red"}).encode(),
    "a number that is text": json.dumps({**PROGRESS, "pid": "1"}).encode(),
    "digits": json.dumps(PROGRESS)[:-2].encode() + b"1" * 5_000 + b"}",
}


@pytest.mark.parametrize("name", ["progress.json", "failed.json"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_cell_whose_file_is_damaged_has_failed_by_that_and_no_other_is_touched(tmp_path, name, content):
    damaged, waiting = cell_in(tmp_path, "a"), cell_in(tmp_path, "b")
    damaged.folder.mkdir()
    (damaged.folder / name).write_bytes(content)
    write_cells(tmp_path, [damaged, waiting])
    states = [state_of(cell) for cell in read_cells(tmp_path)]
    assert [state.state for state in states] == ["failed", "waiting"]
    assert f"a/{name}" in states[0].failure.reason
    assert "2 cells: 1 failed, 1 waiting" in " ".join(drawn(CellsTable([damaged, waiting])).split())
    assert f"a/{name}" in drawn(failures_table(states)).replace("\n", "").replace(" ", "")
    forget(damaged)
    assert state_of(damaged).state == "waiting"


def test_a_finished_cell_whose_record_is_damaged_is_run_again(tmp_path):
    cell = cell_in(tmp_path, "a")
    cell.folder.mkdir()
    (cell.folder / "cell.json").write_text('{"name": "a", ')
    assert state_of(cell).state == "failed"
    assert "cell.json cannot be read" in state_of(cell).failure.reason


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70])
def test_a_process_number_that_none_has_is_of_no_running_cell(tmp_path, pid):
    cell = cell_in(tmp_path, "a")
    cell.folder.mkdir()
    noted = {**PROGRESS, "host": socket.gethostname(), "pid": pid}
    (cell.folder / "progress.json").write_text(json.dumps(noted))
    assert state_of(cell).state == "stopped"


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[3]", '[{"name": "a"}]', '[{"name": "a", "overrides": "x", "folder": "f"}]', "[" * 100_000]
)
def test_a_damaged_list_of_cells_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "cells.json").write_text(text)
    with pytest.raises(Refusal, match=r"cells\.json"):
        read_cells(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "3", "hydra: 5", "hydra: {job: {config: []}}", "hydra: [", "a: &a [*a]", "hydra: " + "[" * 2_000]
)
def test_a_sweep_whose_settings_are_damaged_is_refused_by_its_file(tmp_path, text):
    (tmp_path / "multirun.yaml").write_text(text)
    with pytest.raises(Refusal, match=r"multirun\.yaml"):
        resumed([f"resume={tmp_path}"])
