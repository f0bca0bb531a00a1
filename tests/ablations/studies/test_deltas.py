"""What training changed in the weights, and what bf16 keeps of it."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from ablations.cell import Cell
from ablations.studies.deltas import delta, kept_table
from fusion.runtime.artifacts import content_of
from fusion.runtime.configure import Refusal


def checkpoint(path, **tensors):
    path.mkdir()
    for number, (name, values) in enumerate(tensors.items()):
        save_file({name: torch.tensor(values, dtype=torch.float32)}, path / f"model-{number}.safetensors")
    return path


def test_a_change_below_half_a_bf16_step_counts_in_the_norm_and_vanishes_in_bf16(tmp_path):
    """bf16 has 8 significant bits, so its step at 1 is 2**-7: 1 + 2**-9 rounds back to 1, 1 + 2**-7 stays."""
    pivot = checkpoint(tmp_path / "pivot", a=[1.0, 1.0, 1.0], b=[[2.0]])
    target = checkpoint(tmp_path / "target", a=[1 + 2**-9, 1 + 2**-7, 1.0], b=[[2.0]])
    found = delta(pivot, target)
    assert found.norm == pytest.approx(math.hypot(2**-9, 2**-7))
    assert found.norm_bf16 == pytest.approx(2**-7)
    assert found.unchanged_bf16 == 3 / 4
    assert found.cosine is None


def test_the_cosine_is_of_the_two_task_vectors_from_one_pivot(tmp_path):
    pivot = checkpoint(tmp_path / "pivot", a=[5.0, 5.0], b=[5.0])
    one = checkpoint(tmp_path / "one", a=[6.0, 5.0], b=[5.0])
    other = checkpoint(tmp_path / "other", a=[6.0, 6.0], b=[5.0])
    assert delta(pivot, one, beside=other).cosine == pytest.approx(1 / math.sqrt(2))
    assert delta(pivot, one, beside=one).cosine == pytest.approx(1.0)
    assert delta(pivot, pivot, beside=one).cosine is None


def test_the_table_of_what_merges_keep_has_their_manifests_figures_by_setting(tmp_path):
    def cell(setting: str, seed: int, cosine: float) -> Cell:
        folder = tmp_path / f"{setting}-{seed}"
        folder.mkdir()
        kept = {"cosine": cosine, "norm_ratio": 0.5, "moved": 0.25}
        facts = {"dtype": {"stored": "bfloat16", "rounding": "nearest"}, "update": {"stored": kept, "bfloat16": kept}}
        manifest = {"facts": facts, "files": {"model.safetensors": {"bytes": 1, "sha256": f"{setting}{seed}"}}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        weights = {"linear": content_of(manifest)}
        return Cell(
            path=tmp_path, name="", experiment="", study=None, seed=seed, axes={"row": setting}, weights=weights,
            checkpoints={"linear": str(folder), "pivot": str(tmp_path)},
        )  # fmt: skip

    lines = kept_table([cell("a", 0, 0.2), cell("a", 1, 0.4), cell("b", 0, 1.0)], axis="row")
    assert lines[-2].startswith("| linear | a | 0.3 (0.2 to 0.4) | 0.5 (0.5 to 0.5) | 25% (25 to 25) |")
    assert lines[-2].endswith("| 2 |")
    assert lines[-1].startswith("| linear | b | 1 (1 to 1) |")
    assert not any("pivot" in line for line in lines[-2:])


def test_models_of_two_structures_are_refused(tmp_path):
    pivot = checkpoint(tmp_path / "pivot", a=[1.0])
    with pytest.raises(Refusal, match="other names"):
        delta(pivot, checkpoint(tmp_path / "named", b=[1.0]))
    with pytest.raises(Refusal, match="a has other shapes"):
        delta(pivot, checkpoint(tmp_path / "shaped", a=[1.0, 2.0]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="holds no"):
        delta(pivot, tmp_path / "empty")
