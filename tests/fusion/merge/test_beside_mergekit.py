"""Ours beside mergekit's, where its command is installed: the rules whose definitions agree, on the same files.

It is on the PATH as mergekit-yaml, or named by the environment variable MERGEKIT_YAML.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.merging import generate
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.merge.rules.linear import Linear
from fusion.merge.rules.sce import Sce
from fusion.merge.rules.task_arithmetic import TaskArithmetic
from fusion.merge.rules.ties import Ties

COMMAND = os.environ.get("MERGEKIT_YAML") or shutil.which("mergekit-yaml")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMMAND is None, reason="mergekit is not installed: put mergekit-yaml on the PATH"),
]


def load(directory: Path) -> dict[str, torch.Tensor]:
    return {n: t.float() for file in directory.glob("*.safetensors") for n, t in load_file(file).items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return generate(tmp_path_factory.mktemp("models"), 1)  # the smallest there is: embeddings and one layer


# Each rule as mergekit has it, and the share of entries whose stored bf16 may differ.  Linear: thirds of numbers on the
# bf16 grid often lie half way between two of its numbers.  TIES: mergekit takes an arbitrary choice of the magnitudes
# that tie at the threshold, and signs that only rounding elects where votes cancel.
@pytest.mark.parametrize(
    ("rule", "method", "parameters", "of_target", "share"),
    [
        (Linear(), "linear", {"normalize": True}, {"weight": 0.2}, 0.01),
        (TaskArithmetic(), "task_arithmetic", {"normalize": False}, {"weight": 0.3}, 0.001),
        (Ties(density=1.0), "ties", {"normalize": True}, {"weight": 1.0, "density": 1.0}, 0.001),
        (Ties(count="exactly"), "ties", {"normalize": True}, {"weight": 0.2, "density": 0.6}, 0.1),
        (Sce(reading="mergekit", count="exactly"), "sce", {"select_topk": 0.1}, {}, 0.001),
    ],
    ids=["linear", "task-arithmetic", "ties-untrimmed", "ties", "sce"],
)
def test_the_merged_entries_are_mergekits(
    rule: object, method: str, parameters: dict, of_target: dict, share: float, models: list[Path], tmp_path: Path
) -> None:
    recipe = {
        "merge_method": method,
        "models": [{"model": str(model), "parameters": of_target} for model in models[1:]],
        "parameters": parameters,
        "dtype": "float32",
        "out_dtype": "bfloat16",
        **({} if method == "linear" else {"base_model": str(models[0])}),
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    subprocess.run([str(COMMAND), str(tmp_path / "recipe.yaml"), str(tmp_path / "theirs")], check=True)
    merge(pivot=models[0], targets=models[1:], rule=rule, out=tmp_path / "ours")
    ours, theirs = load(tmp_path / "ours"), load(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    different = sum(int((ours[name] != theirs[name]).sum()) for name in ours)
    assert different <= share * sum(tensor.numel() for tensor in ours.values())
    if method in ("linear", "task_arithmetic"):  # neighbours on the bf16 grid, of 8 bits
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=2**-7, atol=1e-9)
