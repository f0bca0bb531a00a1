"""Checkpoints in fp32, as training writes them: what is merged of them, against the formulas computed in float64."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fusion.merge import MERGE_RULES
from fusion.merge import parameter as parameter_module
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.merge.checkpoints.coefficients import MERGED

SHAPES = {
    "model.embed_tokens.weight": (11, 6),
    "model.layers.0.self_attn.q_proj.weight": (6, 6),
    "model.layers.1.mlp.up_proj.weight": (9, 6),
    "model.norm.weight": (6,),
    "lm_head.weight": (11, 6),
}
Wide = NDArray[np.float64]


def tensors(seed: int) -> dict[str, torch.Tensor]:
    """The pivot (0), or what it became by steps so small that bf16 would swallow nearly all of them."""
    base, move = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=base) + (1e-3 * torch.randn(shape, generator=move) if seed else 0.0)
        for name, shape in SHAPES.items()
    }


def write(directory: Path, held: dict[str, torch.Tensor], *, tied: bool = False) -> Path:
    directory.mkdir()
    save_file(held, directory / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "llama", "num_attention_heads": 2, "tie_word_embeddings": tied, "dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A pivot and two targets, read in pieces of 16 numbers, so that every matrix has several."""
    monkeypatch.setattr(parameter_module, "PIECE", 16)
    monkeypatch.setattr("fusion.merge.checkpoints.checkpoint_stream.PIECE", 16)
    return [write(tmp_path / f"model-{k}", tensors(k)) for k in range(3)]


def wide(directory: Path) -> dict[str, Wide]:
    held = load_file(directory / "model.safetensors")
    assert {tensor.dtype for tensor in held.values()} == {torch.float32}
    return {name: tensor.numpy().astype(np.float64) for name, tensor in held.items()}


def half_largest(values: Wide) -> NDArray[np.bool_]:
    """Where the half of the entries with the largest magnitudes lies."""
    return np.abs(values) > np.median(np.abs(values))


def ties(a: Wide, b: Wide) -> Wide:
    """Yadav et al. (2306.01708): trim to the largest half, elect signs by the sum, mean of those that agree."""
    a, b = a * half_largest(a), b * half_largest(b)
    elected = np.sign(a + b)
    agree_a, agree_b = (np.sign(a) == elected) & (a != 0), (np.sign(b) == elected) & (b != 0)
    return (a * agree_a + b * agree_b) / np.maximum(agree_a.astype(int) + agree_b, 1)


def sce(a: Wide, b: Wide) -> Wide:
    """FuseChat's: select the half that varies most, weigh by squares, erase the sign of the minority."""
    selected = half_largest(a - b)  # of two, the variance is a quarter of the squared difference
    a, b = a * selected, b * selected
    eta_a = np.sum(a**2) / (np.sum(a**2) + np.sum(b**2))
    elected = np.sign(a + b)
    return eta_a * a * (np.sign(a) == elected) + (1 - eta_a) * b * (np.sign(b) == elected)


@pytest.mark.parametrize(
    ("rule", "formula"),
    [
        (MERGE_RULES["linear"](), lambda a, b: (a + b) / 2),
        (MERGE_RULES["task_arithmetic"](weight=0.3), lambda a, b: 0.3 * a + 0.3 * b),
        (MERGE_RULES["ties"](density=0.5, weight=1.0), ties),
        (MERGE_RULES["sce"](select_topk=0.5), sce),
    ],
    ids=["linear", "task_arithmetic", "ties", "sce"],
)
def test_an_fp32_merge_is_the_formula_to_the_last_bits_of_fp32(rule, formula, models, tmp_path: Path) -> None:
    merge(pivot=models[0], targets=models[1:], rule=rule, out=tmp_path / "out")
    pivot, a, b = map(wide, models)
    for name, merged in wide(tmp_path / "out").items():
        moved = formula(a[name] - pivot[name], b[name] - pivot[name])
        assert np.abs(moved).max() > 1e-4
        # Three roundings of fp32, of numbers up to 4; bf16 would be off by up to 2**-7.
        np.testing.assert_allclose(merged, pivot[name] + moved, rtol=0, atol=3 * 2**-22)


def test_the_coefficients_of_the_result_are_those_of_what_was_written(models, tmp_path: Path) -> None:
    rule = MERGE_RULES["ties"](density=0.5, weight=1.0)
    merge(pivot=models[0], targets=models[1:], rule=rule, names=["a", "b"], out=tmp_path / "out")
    rows = {
        (row["parameter"], row["target"]): row
        for row in parquet.read_table(tmp_path / "out/coefficients.parquet").to_pylist()
    }
    pivot, merged = wide(models[0]), wide(tmp_path / "out")
    for name in SHAPES:
        moved = merged[name] - pivot[name]
        assert rows[name, MERGED]["delta_norm"] == pytest.approx(np.linalg.norm(moved), rel=1e-3)
        assert rows[name, MERGED]["kept_fraction"] == pytest.approx(np.mean(moved != 0))
        for target, directory in zip("ab", models[1:], strict=True):
            assert rows[name, target]["delta_norm"] == pytest.approx(
                np.linalg.norm(wide(directory)[name] - pivot[name]), rel=1e-5
            )


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_drops_the_entries_its_embeddings_drop(tied: bool, tmp_path: Path) -> None:
    head, embeddings = "lm_head.weight", "model.embed_tokens.weight"
    held = [tensors(k) for k in range(3)]
    for model in held:
        model[head] = model[embeddings].clone()  # the same numbers, stored twice, as some published models are
    models = [write(tmp_path / f"model-{k}", model, tied=tied) for k, model in enumerate(held)]
    merge(pivot=models[0], targets=models[1:], rule=MERGE_RULES["dare"](density=0.5), seed=3, out=tmp_path / "out")
    merged = wide(tmp_path / "out")
    assert np.array_equal(merged[head], merged[embeddings]) == tied
