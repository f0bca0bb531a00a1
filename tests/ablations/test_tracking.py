"""Trackers: a finished cell is in the store once, with every number, no zero for what was not scored, and no secret."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.tracking import track, tracker_from
from ablations.tracking.mlflow import MLflow
from ablations.tracking.record import CellRecord, record_of
from ablations.tracking.wandb import WandB
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal

UNCERTAINTY = Uncertainty(seed=0)


def settings(*overrides: str) -> dict[str, Any]:
    return compose("ablations", ["experiment=pocket_smoke", *overrides])


@pytest.fixture
def cell(tmp_path: Path, rated) -> Path:
    """A finished cell with one artifact of 1.5 s behind it, which two of its models share."""
    out = tmp_path / "cell"
    write_report([rated("sce", "Merged", [6.0, 7.0, 8.0, 7.0], unscored=2)], out, title="t", uncertainty=UNCERTAINTY)
    made = tmp_path / "artifacts/fuse/k"
    made.mkdir(parents=True)
    (made / "manifest.json").write_text(json.dumps({"files": {}, "wall_seconds": 1.5}))
    stage = {"stage": "fuse", "key": "k", "path": str(made)}
    content = {
        "name": "merge=sce", "experiment": "pocket_smoke", "study": "trial", "seed": 0, "axes": {"merge": "sce"},
        "stages": [{**stage, "what": "letters"}, {**stage, "what": "numbers"}],
    }  # fmt: skip
    (out / "cell.json").write_text(json.dumps(content))
    return out


def test_every_scored_row_is_a_metric_with_its_interval_and_every_other_a_reason(cell: Path) -> None:
    record = record_of(settings(), cell)
    assert set(record.metrics) == {f"sce/mt_bench/rating/all{end}" for end in ("", "/low", "/high", "/unscored")}
    assert record.metrics["sce/mt_bench/rating/all"] == 7.0
    assert record.metrics["sce/mt_bench/rating/all/unscored"] == 2
    assert record.unscored == {"sce/mt_bench/rating/turn2": "the judge was silent"}
    assert record.stages == {"fuse": (1, 1.5)}
    assert record.group == "trial"


def test_where_and_how_a_cell_runs_leaves_it_the_same_cell(cell: Path) -> None:
    first = record_of(settings(), cell)
    assert record_of(settings("paths.artifacts=/elsewhere", "lanes=1", "tracking=wandb"), cell).digest == first.digest
    assert record_of(settings("train.lm_weight=0.5"), cell).digest != first.digest


def test_a_setting_that_holds_a_secret_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789abcdef")
    given = settings("tracking=wandb", "serve=endpoint", "serve.base_url='http://a/?key=sk-0123456789abcdef'")
    with pytest.raises(Refusal, match=r"serve\.base_url holds the value of \$SOME_API_KEY"):
        tracker_from(given)
    tracker_from({**given, "tracking": {"name": "none"}})


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_refused_before_anything_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Refusal, match=rf"needs the package {name}, which is not installed: pip install -e '\.\[track"):
        tracker_from(settings(f"tracking={name}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tracking=mlflow", "tracking.server=https://me:word@host"], "server holds a password"),
        (["tracking=wandb", "tracking.mode=online"], "mode is online and WANDB_API_KEY is not set"),
    ],
)
def test_keys_come_from_the_environment(overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(Refusal, match=message):
        tracker_from(settings(*overrides))


def test_a_tracker_that_fails_is_shown_and_the_cell_is_kept(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    (cell.parent / "occupied").write_text("no directory")
    track(MLflow(directory=str(cell.parent / "occupied")), settings(), cell)
    assert "is finished, but mlflow could not log it: FileExistsError" in capsys.readouterr().err
    assert (cell / "cell.json").exists()


def changed(record: CellRecord, cell: Path) -> CellRecord:
    """The same cell after a run that gave other scores, and scored nothing under `all`."""
    (cell / "scores.csv").write_text((cell / "scores.csv").read_text().replace("rating,all", "rating,turn1"))
    return replace(record_of(settings(), cell), digest=record.digest)


def test_mlflow_holds_a_cell_once_with_its_numbers_settings_reasons_and_files(cell: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    record, tracker = record_of(settings(), cell), MLflow(directory=str(tmp_path / "store"))
    tracker.log(record)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/store/mlflow.db")
    experiment = client.get_experiment_by_name("trial").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.run_name == "merge=sce"
    assert run.data.metrics == record.numbers
    assert run.data.metrics["stages/fuse/seconds"] == 1.5
    assert run.data.params["merge.sce.select_topk"] == "0.1"
    assert run.data.tags["unscored.sce/mt_bench/rating/turn2"] == "the judge was silent"
    assert run.data.tags["axis.merge"] == "sce"
    assert run.data.tags["seed"] == "0"
    kept = tmp_path / f"store/files/{run.info.run_id}/artifacts"
    for name in ("leaderboard.html", "leaderboard.md", "scores.csv", "cell.json"):
        assert (kept / name).read_bytes() == (cell / name).read_bytes()

    tracker.log(record)  # nothing changed: nothing happens
    assert [found.info.run_id for found in client.search_runs([experiment])] == [run.info.run_id]

    tracker.log(changed(record, cell))
    (replaced,) = client.search_runs([experiment])
    assert "sce/mt_bench/rating/all" not in replaced.data.metrics
    assert replaced.data.metrics["sce/mt_bench/rating/turn1"] == 7.0


def test_wandb_keeps_one_offline_run_of_a_cell_and_nothing_of_the_machine(cell: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    record, tracker = record_of(settings(), cell), WandB(directory=str(tmp_path / "store"))
    tracker.log(record)
    tracker.log(changed(record, cell))
    (folder,) = (tmp_path / "store/wandb").glob("offline-run-*")
    assert {path.name for path in (folder / "files").iterdir()} >= {"leaderboard.html", "scores.csv", "cell.json"}
    found = list(wandb_records(folder / f"run-{record.digest}.wandb"))
    (run,) = (entry.run for entry in found if entry.HasField("run"))
    assert (run.run_id, run.display_name, run.run_group, run.host) == (record.digest, "merge=sce", "trial", "")
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["merge"]["sce"]["select_topk"] == 0.1
    assert config["axes"] == {"merge": "sce"}
    summary = {u.key: json.loads(u.value_json) for entry in found for u in entry.summary.update}
    assert summary["sce/mt_bench/rating/turn1"] == 7.0
    assert summary["unscored/sce/mt_bench/rating/turn2"] == "the judge was silent"
    assert "sce/mt_bench/rating/all" not in summary
    assert not any(entry.HasField("environment") for entry in found)


def wandb_records(path: Path) -> Iterator[Any]:
    """A .wandb file is a log in LevelDB's format behind seven bytes: checksum, length, kind; cut at 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""
