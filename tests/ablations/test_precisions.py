"""At which precision each model was trained, stored and served: the report's table, and what is said before serving."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.precisions import (
    as_answered,
    check_served,
    facts_of,
    lost_notes,
    precisions,
    precisions_section,
    read_precisions,
    write_precisions,
)
from eval.serve import VLLM, Automatic, ExistingEndpoint, Transformers
from fusion.checkpoint import Checkpoint
from fusion.pipeline import fusion_config
from fusion.runtime.artifacts import content_of
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import directory_key
from fusion.runtime.progress import StageRecord

WHOLE = {"cosine": 1.0, "norm_ratio": 1.0, "moved": 0.999}
LOST = {"cosine": 0.18, "norm_ratio": 0.22, "moved": 0.026}


def found(where: Path) -> Checkpoint:
    """A published pivot: no manifest."""
    (where / "pivot").mkdir()
    (where / "pivot/config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))
    return Checkpoint(model="pivot", group="Pivot", path=where / "pivot", key="p")


def made(where: Path, model: str, dtype: dict, **update: dict) -> Checkpoint:
    (where / model).mkdir()
    weights = {"bytes": 3, "sha256": hashlib.sha256(model.encode()).hexdigest()}
    manifest = {"facts": {"dtype": dtype, "update": update}, "files": {"model.safetensors": weights}}
    (where / model / "manifest.json").write_text(json.dumps(manifest))
    return Checkpoint(model=model, group="Merged", path=where / model, key=content_of(manifest))


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Checkpoint]:
    trained = {"initial": "bfloat16", "trained": "float32", "arithmetic": "bfloat16", "stored": "float32"}
    merge = {"pivot": "bfloat16", "targets": ["float32"], "stored": "float32", "rounding": "nearest"}
    return [
        found(tmp_path),
        made(tmp_path, "target-a", trained, stored=WHOLE, bfloat16=LOST),
        made(tmp_path, "linear", merge, stored=WHOLE, bfloat16=LOST),
        made(tmp_path, "sce", merge | {"stored": "bfloat16"}, stored=LOST, bfloat16=LOST),
    ]


@pytest.mark.parametrize(
    ("serve", "stored", "served"),
    [
        (VLLM(), "float32", "bfloat16"),
        (VLLM(), "bfloat16", "bfloat16"),
        (VLLM(), "float16", "float16"),
        (VLLM(dtype="float32"), "bfloat16", "float32"),
        (Transformers(), "float32", "float32"),
        (Transformers(), "bfloat16", "bfloat16"),
        (Transformers(dtype="bfloat16"), "float32", "bfloat16"),
        (ExistingEndpoint(base_url="http://x/v1", model="m"), "float32", None),
    ],
)
def test_the_served_precision_is_what_auto_comes_down_to(serve, stored, served):
    assert serve.precision(stored) == served


def test_auto_serves_as_the_server_does_that_it_chooses():
    chosen, _ = Automatic().chosen()
    assert Automatic().precision("float32") == chosen.precision("float32")


def test_the_table_has_every_step_of_every_model(checkpoints, tmp_path):
    rows = precisions(checkpoints, lambda _, stored: VLLM().precision(stored))
    steps = {one.model: (one.trained, one.stored, one.served) for one in rows}
    assert steps == {
        "pivot": ("", "bfloat16", "bfloat16"),
        "target-a": ("float32", "float32", "bfloat16"),
        "linear": ("float32", "float32", "bfloat16"),
        "sce": ("float32", "bfloat16", "bfloat16"),
    }
    write_precisions(rows, tmp_path / "precision.csv")
    with (tmp_path / "precision.csv").open() as stream:
        written = {row["model"]: row for row in csv.DictReader(stream)}
    assert written["linear"]["cosine_stored"] == "1.0"
    assert (written["linear"]["cosine_served"], written["linear"]["moved_served"]) == ("0.18", "0.026")
    assert written["pivot"]["cosine_stored"] == ""
    assert read_precisions(tmp_path / "precision.csv") == rows
    section = precisions_section(rows)
    assert all(len(row) == len(section.columns) for row in section.rows)
    assert [row[0].text for row in section.rows] == ["pivot", "target-a", "linear", "sce"]
    # What was lost in the file is not told once more of the server, which loses nothing besides.
    notes = lost_notes(rows)
    assert [note.split(":")[0] for note in notes] == ["target-a", "linear", "sce"]
    assert "as served in bfloat16: cosine 0.18, norm ratio 0.22, 2.6% of the entries moved" in notes[1]
    assert "as stored in bfloat16" in notes[2]


def test_a_manifest_that_is_not_of_these_files_is_not_believed(tmp_path):
    """A stranger's directory with a manifest in it is known by all of its files."""
    forged = made(tmp_path, "linear", {"stored": "float32", "rounding": "nearest"}, stored=LOST)
    assert facts_of(forged.path, forged.key)["update"] == {"stored": LOST}
    (forged.path / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    by_its_files = replace(forged, key=directory_key(forged.path, tmp_path / "digests.json"))
    assert facts_of(forged.path, by_its_files.key) == {}
    (found,) = precisions([by_its_files], lambda _, stored: stored)
    assert (found.stored, found.rounding, found.as_stored) == ("bfloat16", "", None)
    for damaged in ("{", "[]", '{"facts": {"dtype": {"stored": "float32"}}}', '{"facts": 3, "files": {}}'):
        (forged.path / "manifest.json").write_text(damaged)
        assert facts_of(forged.path, forged.key) == {}


def test_what_the_server_said_comes_before_what_its_settings_promise(checkpoints, tmp_path):
    (linear,) = (one for one in checkpoints if one.model == "linear")
    manifest = {"facts": {"dtype": "float16"}, "inputs": {"weights": linear.key}, "files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    record = StageRecord(stage="answers", what="linear · mt", key="k", path=str(tmp_path))
    rows = precisions(checkpoints, as_answered([record], VLLM()))
    assert {one.model: one.served for one in rows}["linear"] == "float16"
    assert {one.model: one.served for one in rows}["target-a"] == "bfloat16"


def test_a_server_that_would_lose_an_update_is_told_of_before_it_starts(checkpoints):
    said: list[str] = []
    check_served(checkpoints, VLLM(), "warn", said.append)
    assert [line.split(",")[0] for line in said] == ["target-a", "linear"]  # sce was told of when it was written
    assert "served in bfloat16, loses a part" in said[0]
    with pytest.raises(Refusal, match=r"target-a, stored in float32 and served in bfloat16.*serve\.dtype=float32"):
        check_served(checkpoints, VLLM(), "refuse", said.append)
    said.clear()
    check_served(checkpoints, VLLM(dtype="float32"), "refuse", said.append)
    check_served(checkpoints, ExistingEndpoint(base_url="http://x/v1", model="m"), "refuse", said.append)
    assert said == []


def test_pocket_models_are_stored_as_published_ones_are_where_that_is_asked_for():
    from fusion.runtime.command import compose

    plain = fusion_config(compose("ablations", ["experiment=pocket_smoke"]))
    stored = fusion_config(compose("ablations", ["experiment=pocket_smoke", "pocket_dtype=bfloat16"]))

    def saved(config):
        return {model.pocket.train.save_dtype for model in config.models.values()}

    assert (saved(plain), saved(stored)) == ({"float32"}, {"bfloat16"})
    assert stored.train == plain.train
