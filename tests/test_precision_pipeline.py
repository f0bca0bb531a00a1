"""A pivot stored in bf16, targets trained from it by small steps: trained, merged, served and measured as a user would.

Each figure that a manifest or table names is computed again here, in float64, from the files themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ablations.cell import run_cell
from ablations.sweep.cells import expand
from eval.serve.standing import Servers
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = [
    "experiment=pocket_smoke",
    "benchmark=[pocket_mt_bench]",
    "source_count=2",
    "baselines=[]",
    "merge=[linear]",
    "pocket_dtype=bfloat16",
    "train.max_steps=3",
    "train.learning_rate=2e-5",
]
Ran = tuple[dict, Path, str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ran]]:
    """`ran(*overrides)` runs a cell in the module's one store: its cell.json, its folder, and what it said."""
    where = tmp_path_factory.mktemp("precision")

    def run(*overrides: str) -> Ran:
        out = where / f"cell{len([*where.glob('cell*')])}"
        out.mkdir()
        sweep = expand("ablations", [*SMALL, f"paths.artifacts={where}/artifacts", *overrides])
        console = Console(record=True, width=400, file=(where / "said").open("w"))
        settings = sweep.compose(sweep.cells[0]).settings
        run_cell(settings, out=out, name="base", axes={}, servers=servers, shown=RunProgress(console))
        return json.loads((out / "cell.json").read_text()), out, console.export_text()

    with Servers() as servers:
        yield run


def weights(directory: str) -> dict[str, torch.Tensor]:
    return load_file(Path(directory) / "model.safetensors")


def facts(directory: str) -> dict:
    return json.loads((Path(directory) / "manifest.json").read_text())["facts"]


def left(cell: dict, model: str, dtype: torch.dtype | None = None) -> dict[str, float]:
    """Cosine, norm ratio and share moved of the model's update once its files are taken to `dtype`."""
    pivot, held = weights(cell["checkpoints"]["pivot"]), weights(cell["checkpoints"][model])
    assert {tensor.dtype for tensor in pivot.values()} == {torch.bfloat16}
    whole = torch.cat([(held[name].double() - pivot[name].double()).reshape(-1) for name in pivot])
    kept = torch.cat([(held[n].to(dtype or held[n].dtype).double() - pivot[n].double()).reshape(-1) for n in pivot])
    return {
        "cosine": float(whole @ kept / whole.norm() / kept.norm()),
        "norm_ratio": float(kept.norm() / whole.norm()),
        "moved": float((kept != 0).double().mean()),
    }


def answered_in(cell: dict, model: str) -> str:
    (stage,) = (s for s in cell["stages"] if s["stage"] == "answers" and s["what"].startswith(f"{model} ·"))
    return facts(stage["path"])["dtype"]


def test_a_merge_of_fp32_targets_keeps_what_training_changed_and_is_served_whole(ran):
    cell, out, said = ran("serve=transformers")
    merged = cell["checkpoints"]["linear"]
    assert {tensor.dtype for tensor in weights(merged).values()} == {torch.float32}
    targets = [weights(path) for name, path in cell["checkpoints"].items() if name.startswith("target-")]
    for name, tensor in weights(merged).items():
        torch.testing.assert_close(tensor, (targets[0][name] + targets[1][name]) / 2, rtol=1e-6, atol=1e-9)
    types = {"pivot": "bfloat16", "targets": ["float32"] * 2, "stored": "float32", "rounding": "nearest"}
    assert facts(merged)["dtype"] == types
    assert facts(merged)["update"]["stored"] == pytest.approx(left(cell, "linear"), abs=1e-5)
    expected = left(cell, "linear", torch.bfloat16)
    assert facts(merged)["update"]["bfloat16"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert expected["cosine"] < 0.9
    assert answered_in(cell, "linear") == "float32"
    assert answered_in(cell, "pivot") == "bfloat16"
    table = pd.read_csv(out / "precision.csv").set_index("model")
    assert list(table.loc["linear", ["trained", "stored", "served"]]) == ["float32", "float32", "float32"]
    assert list(table.loc["pivot", ["stored", "served"]]) == ["bfloat16", "bfloat16"]
    assert table.loc["linear", "cosine_served"] == pytest.approx(1)
    assert "Precision</h2>" in (out / "leaderboard.html").read_text()
    assert "loses a part" not in said


def test_a_merge_written_in_bf16_says_what_it_lost_and_is_refused_where_that_is_asked_for(ran):
    cell, out, said = ran("serve=transformers", "merged.dtype=bfloat16")
    merged = cell["checkpoints"]["linear"]
    assert {tensor.dtype for tensor in weights(merged).values()} == {torch.bfloat16}
    assert facts(merged)["update"]["stored"]["cosine"] < 0.9
    assert "linear, written in bfloat16, loses a part of what training changed (cosine 0." in said
    assert (
        "linear: of what training changed only a part is left as stored in bfloat16"
        in (out / "leaderboard.md").read_text()
    )
    with pytest.raises(Refusal, match=r"linear, written in bfloat16, .*norm ratio.*merged\.dtype=float32"):
        ran("serve=transformers", "merged.dtype=bfloat16", "lost_update=refuse")
    _, _, said = ran("serve=transformers", "merged.dtype=bfloat16", "lost_update=allow")
    assert "loses" not in said


def test_a_target_saved_in_bf16_says_what_was_rounded_off_its_training(ran):
    cell, _, said = ran("serve=transformers", "train.save_dtype=bfloat16", "merge=[]")
    name = next(model for model in cell["checkpoints"] if model.startswith("target-"))
    found = facts(cell["checkpoints"][name])
    assert found["dtype"] == {
        "initial": "bfloat16", "trained": "float32", "arithmetic": "float32", "stored": "bfloat16",
    }  # fmt: skip
    assert found["update"]["stored"]["cosine"] < 0.9
    assert f"{name}, saved in bfloat16, loses a part of what training changed" in said


def test_vllm_takes_fp32_down_to_bf16_which_is_said_before_anything_is_asked_and_measured(ran):
    with pytest.raises(Refusal, match=r"stored in float32 and served in bfloat16, .*serve\.dtype=float32"):
        ran("serve=vllm", "serve.max_model_len=256", "lost_update=refuse")
    cell, out, said = ran("serve=vllm", "serve.max_model_len=256")
    assert answered_in(cell, "linear") == "bfloat16"  # as the server's own log has it
    assert "linear, stored in float32 and served in bfloat16, loses a part of what training changed" in said
    row = pd.read_csv(out / "precision.csv").set_index("model").loc["linear"]
    expected = left(cell, "linear", torch.bfloat16)
    found = {name: row[f"{name}_served"] for name in expected}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert list(row[["stored", "served"]]) == ["float32", "bfloat16"]
    assert (
        "linear: of what training changed only a part is left as served in bfloat16"
        in (out / "leaderboard.md").read_text()
    )
    cell, _, said = ran("serve=vllm", "serve.max_model_len=256", "serve.dtype=float32")
    assert answered_in(cell, "linear") == "float32"
    assert "loses" not in said
