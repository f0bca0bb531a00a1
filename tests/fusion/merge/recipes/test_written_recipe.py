"""A merge written down as a recipe and merged again gives the same bytes, whatever the rule."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from fusion.merge import MERGE_RULES
from fusion.merge.__main__ import merge_recipe
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.merge.recipes.recipe import read_recipe
from fusion.merge.recipes.written_recipe import written_recipe
from fusion.runtime.precision import MergedConfig

TARGETS = ("a", "b", "c")
NAMES = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.up_proj.weight" for i in range(3)), "model.norm.weight"]
# SLERP merges two of them.
NEEDED = {"slerp": {"pair": (0, 2)}}
FIELDS = [
    *((name, {}) for name in MERGE_RULES),
    ("linear", {"weight": (0.5, 0.3, 0.2), "normalize": False}),
    ("ties", {"weight": (0.5, 0.3, 0.2), "density": (0.2, 0.5, 0.9), "scope": "model", "aggregate": "sum"}),
    ("dare", {"rescale": "match_l1", "merge": "ties", "density": 0.4}),
    ("slerp", {"t": (0.1, 0.9), "t_where": {"mlp": (0.3, 0.6)}}),
    ("varm", {"granularity": "layer"}),
    ("sce", {"reading": "mergekit", "select_topk": 0.5}),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    random = torch.Generator().manual_seed(0)
    pivot = {name: torch.randn(6, 5, generator=random) for name in NAMES}
    for name in ("pivot", *TARGETS):
        (folder / name).mkdir()
        moved = 0.0 if name == "pivot" else 0.1
        held = {key: value + moved * torch.randn(6, 5, generator=random) for key, value in pivot.items()}
        save_file(held, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 3}')
    return folder


@pytest.mark.parametrize(("name", "fields"), FIELDS, ids=[f"{name}-{len(fields)}" for name, fields in FIELDS])
def test_a_merge_is_repeated_from_its_recipe(name: str, fields: dict, models: Path, tmp_path: Path) -> None:
    rule = MERGE_RULES[name](**NEEDED.get(name, {}), **fields)
    (tmp_path / "merged").mkdir()
    merge(
        pivot=models / "pivot", targets=[models / t for t in TARGETS], rule=rule, out=tmp_path / "merged", seed=3,
        names=["x", "y", "z"],
    )  # fmt: skip
    recipe = written_recipe(rule, pivot="pivot", targets=TARGETS, seed=3)
    (models / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    plan = read_recipe(models / "recipe.yaml")
    merge_recipe(plan, out=tmp_path / "again", seed=plan.recipe.seed)
    weights = [(tmp_path / made / "model.safetensors").read_bytes() for made in ("merged", "again")]
    assert weights[0] == weights[1]
    assert weights[0] != (models / "pivot/model.safetensors").read_bytes()


def test_the_type_and_the_rounding_are_written_down_too(models: Path, tmp_path: Path) -> None:
    rule, settings = MERGE_RULES["linear"](), MergedConfig(dtype="bfloat16", rounding="stochastic")
    targets = [models / target for target in TARGETS]
    merge(
        pivot=models / "pivot", targets=targets, rule=rule, out=tmp_path / "merged", seed=3, dtype=settings.dtype,
        rounding=settings.rounding,
    )  # fmt: skip
    recipe = written_recipe(rule, pivot="pivot", targets=TARGETS, seed=3, merged=settings.decides[0])
    (models / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    plan = read_recipe(models / "recipe.yaml")
    merge_recipe(plan, out=tmp_path / "again", seed=plan.recipe.seed)
    weights = [(tmp_path / made / "model.safetensors").read_bytes() for made in ("merged", "again")]
    assert weights[0] == weights[1]
