"""Recipes in mergekit's keys, and the command that reads them."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fusion.merge.__main__ import merge_recipe, run
from fusion.merge.parameter import Context
from fusion.merge.recipes.recipe import MergePlan, read_recipe
from fusion.merge.rules.dare import Dare
from fusion.merge.rules.sce import Sce
from fusion.merge.rules.slerp import Slerp
from fusion.merge.rules.ties import Ties
from fusion.runtime.configure import Refusal

ROOT = Path(__file__).parents[4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(["pivot", "a", "b"]):
        (tmp_path / name).mkdir()
        random = torch.Generator().manual_seed(number)
        names = [
            "model.embed_tokens.weight",
            *(f"model.layers.{i}.{p}.weight" for i in range(3) for p in ("self_attn.q_proj", "mlp.up_proj")),
        ]
        save_file({n: torch.randn(4, 4, generator=random) for n in names}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


def recipe(folder: Path, **keys: object) -> MergePlan:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(keys))
    return read_recipe(folder / "recipe.yaml")


def at(plan: MergePlan, layer: int | None, part: str = "mlp.up_proj") -> Any:
    name = "model.embed_tokens.weight" if layer is None else f"model.layers.{layer}.{part}.weight"
    return plan.rules.rule_for(Context(name=name, layer=layer, layers=3))


def models(**parameters: object) -> list[dict]:
    return [{"model": "pivot"}, {"model": "a", "parameters": parameters}, {"model": "b", "parameters": parameters}]


def test_the_base_model_among_the_models_is_the_pivot_and_no_target(folder: Path) -> None:
    plan = recipe(folder, merge_method="ties", base_model="pivot", models=models(weight=0.2, density=0.6))
    assert plan.pivot == folder / "pivot"
    assert plan.targets == (folder / "a", folder / "b")
    assert at(plan, 0) == Ties(weight=(0.2, 0.2), density=(0.6, 0.6))


def test_linear_needs_no_base_and_counts_it_when_listed(folder: Path) -> None:
    plan = recipe(folder, merge_method="linear", models=models(weight=0.2)[1:])
    assert (plan.pivot, plan.targets) == (folder / "a", (folder / "a", folder / "b"))
    counted = recipe(
        folder,
        merge_method="linear",
        base_model="pivot",
        models=[{"model": m, "parameters": {"weight": 1}} for m in ("pivot", "a")],
    )
    assert counted.targets == (folder / "pivot", folder / "a")


def test_mergekits_spellings_become_our_fields(folder: Path) -> None:
    keys = {"base_model": "pivot", "models": models(weight=0.2, density=0.6)}
    ties = recipe(
        folder, merge_method="ties", parameters={"normalize": False, "lambda": 0.5, "int8_mask": True}, **keys
    )
    assert at(ties, 0) == Ties(weight=(0.2, 0.2), density=(0.6, 0.6), aggregate="sum", scale=0.5)
    assert any("int8_mask" in note for note in ties.notes)
    dare = recipe(folder, merge_method="dare_ties", parameters={"rescale": True, "normalize": True}, **keys)
    assert at(dare, 0) == Dare(weight=(0.2, 0.2), density=(0.6, 0.6), rescale="match_l1", merge="ties")
    sce = recipe(
        folder,
        merge_method="sce",
        base_model="pivot",
        models=models(),
        parameters={"select_topk": 0.3, "reading": "fuseai"},
    )
    assert at(sce, 0) == Sce(select_topk=0.3, reading="fuseai")


def test_lists_are_gradients_over_the_layers_and_filters_go_by_name(folder: Path) -> None:
    weights = [{"filter": "mlp", "value": [0.0, 1.0]}, {"value": 0.25}]
    plan = recipe(folder, merge_method="task_arithmetic", base_model="pivot", models=models(weight=weights))
    assert [at(plan, layer).weight for layer in range(3)] == [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]
    assert at(plan, 1, "self_attn.q_proj").weight == (0.25, 0.25)
    assert at(plan, None).weight == (0.25, 0.25)


def test_a_gradient_begins_before_the_layers_and_ends_after_them(folder: Path) -> None:
    norm, stack = "model.norm.weight", "model.layers.{}.mlp.weight"
    names = ["model.embed_tokens.weight", *map(stack.format, range(3)), norm, "lm_head.weight"]
    for model in ("pivot", "a"):
        value = 0.0 if model == "pivot" else 1.0
        save_file({name: torch.full((2,), value) for name in names}, folder / model / "model.safetensors")
    sources = [{"model": "a", "layer_range": [0, 2]}], [{"model": "a", "layer_range": [2, 3]}]
    for keys, expected in (
        ({"models": [{"model": "a", "parameters": {"weight": [0.0, 1.0]}}]}, [0, 0, 0.5, 1, 1, 1]),
        ({"slices": [{"sources": own} for own in sources], "parameters": {"weight": [0.0, 1.0]}}, [0, 0, 1, 1, 1, 1]),
    ):
        found = recipe(folder, merge_method="task_arithmetic", base_model="pivot", **keys)
        out = folder / f"out-{len(keys)}"
        merge_recipe(found, out=out, seed=0)
        merged = load_file(out / "model.safetensors")
        assert [merged[name].tolist() for name in names] == [[number] * 2 for number in expected]


def test_fusechat_v1s_slerp_in_slices(folder: Path) -> None:
    t = [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "mlp", "value": [1, 0.5, 0]}, {"value": 0.5}]
    sources = [{"model": m, "layer_range": [0, 3]} for m in ("a", "b")]
    plan = recipe(folder, merge_method="slerp", base_model="a", slices=[{"sources": sources}], parameters={"t": t})
    assert (plan.pivot, plan.targets) == (folder / "a", (folder / "b",))
    assert at(plan, 0) == Slerp(t=1.0)
    assert at(plan, 2, "self_attn.q_proj") == Slerp(t=1.0)
    assert at(plan, None) == Slerp(t=0.5)


def test_what_is_given_closest_counts(folder: Path) -> None:
    def sources(first: int, end: int, weight: float | None) -> list[dict]:
        own = {"parameters": {"weight": weight}} if weight is not None else {}
        return [{"model": m, "layer_range": [first, end], **own} for m in ("a", "b")]

    slices = [
        {"sources": sources(0, 1, 0.1), "parameters": {"weight": 0.2}},
        {"sources": sources(1, 2, None), "parameters": {"weight": 0.2}},
        {"sources": sources(2, 3, None)},
    ]
    plan = recipe(folder, merge_method="task_arithmetic", base_model="pivot", slices=slices, parameters={"weight": 0.3})
    assert [at(plan, layer).weight[0] for layer in range(3)] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"merge_metod": "ties"}, "unknown key 'recipe.merge_metod': did you mean 'merge_method'"),
        ({"merge_method": "tie"}, "merge_method is 'tie': did you mean 'ties'"),
        ({"merge_method": "ties", "models": models()}, "ties needs base_model"),
        ({"merge_method": "ties", "base_model": "pivot"}, "either models or slices"),
        ({"merge_method": "ties", "base_model": "pivot", "models": models(densty=0.1)}, "did you mean 'density'"),
        ({"merge_method": "ties", "base_model": "pivot", "models": models(density=1.5)}, "density is 1.5"),
        ({"merge_method": "ties", "base_model": "pivot", "models": models(density="half")}, "density.* is .*half"),
        (
            {"merge_method": "ties", "base_model": "pivot", "models": models(), "parameters": {"lamda": 1}},
            "did you mean 'lambda'",
        ),
        (
            {"merge_method": "sce", "base_model": "pivot", "models": models(select_topk=0.1)},
            "one setting for all models",
        ),
        ({"merge_method": "linear", "models": [{"model": "nowhere"}]}, "there is no model directory nowhere"),
        ({"merge_method": "linear", "models": [{"model": "a", "parametrs": {}}]}, "did you mean 'parameters'"),
        (
            {"merge_method": "linear", "models": models()[1:], "tokenizer_source": "union"},
            "tokenizer_source is 'union'",
        ),
    ],
)
def test_what_is_unknown_or_mistyped_is_refused(folder: Path, keys: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        at(recipe(folder, **keys), 0)


def test_stacking_layers_is_refused(folder: Path) -> None:
    sources = [{"model": "a", "layer_range": [0, 2]}, {"model": "b", "layer_range": [1, 3]}]
    with pytest.raises(Refusal, match="stacking layers"):
        recipe(folder, merge_method="linear", slices=[{"sources": sources}])


def test_a_layer_that_no_slice_covers_is_refused(folder: Path) -> None:
    sources = [{"model": m, "layer_range": [0, 2]} for m in ("a", "b")]
    plan = recipe(folder, merge_method="linear", slices=[{"sources": sources}], parameters={"weight": 1})
    with pytest.raises(Refusal, match="no slice covers layer 2"):
        at(plan, 2)


def test_defaults_that_differ_from_mergekits_are_said(folder: Path) -> None:
    plan = recipe(folder, merge_method="ties", base_model="pivot", models=models(weight=0.2))
    assert "density is not given: 0.6 here, in mergekit 1.0" in plan.notes


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (None, "weight is not given: 0.3 here"),
        ([{"filter": "mlp", "value": 0.5}], "weight is not given for every parameter: 0.3 here"),
        ({"filter": "mlp", "value": 0.5}, "weight is not given for every parameter: 0.3 here"),
        ([{"filter": "mlp", "value": 0.5}, {"value": 0.1}], None),
        ([{"filter": "mlp", "value": 0.5}, {"filter": "*", "value": 0.1}], None),
        ([0.1, 0.5], None),
    ],
)
def test_what_a_recipe_leaves_open_for_some_parameters_is_said_too(folder: Path, weight: object, told: str) -> None:
    plan = recipe(folder, merge_method="task_arithmetic", base_model="pivot", models=models(weight=weight))
    assert [note for note in plan.notes if note.startswith("weight")] == (
        [f"{told}, in mergekit none, it is required"] if told else []
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, "nan", "-inf", [0.1, math.nan], {"value": math.inf}, 10**400])
def test_a_number_that_is_none_is_refused_before_anything_is_read(folder: Path, value: object) -> None:
    plan = recipe(folder, merge_method="task_arithmetic", base_model="pivot", models=models(weight=value))
    with pytest.raises(Refusal, match="^weight is .*: expected a finite number$"):
        at(plan, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no mapping"),
        ("- a", "is no mapping"),
        ("merge_method: linear\n---\nmerge_method: linear\n", "it holds 2 documents"),
        ("merge_method: linear\nmodels: []\nmodels: [{model: a}]\n", "'models' stands there twice"),
        ("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1, weight: 2}}]\n", "'weight' stands there"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: 2020-99-99", "is not YAML"),
        ("a: !!python/object:os.system x", "is not YAML"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(Refusal, match=said):
        read_recipe(folder / "recipe.yaml")


def test_anchors_and_merged_keys_are_yaml_as_ever(folder: Path) -> None:
    text = "merge_method: linear\nmodels:\n- &a {model: a, parameters: {weight: 1}}\n- {<<: *a, model: b}\n"
    (folder / "recipe.yaml").write_text(text)
    assert read_recipe(folder / "recipe.yaml").targets == (folder / "a", folder / "b")


@pytest.mark.parametrize("key", ["dtype", "out_dtype"])
def test_a_type_that_is_none_is_refused_with_the_recipe(folder: Path, key: str) -> None:
    with pytest.raises(Refusal, match="dtype is 'bfloat61': did you mean 'bfloat16'"):
        recipe(folder, merge_method="linear", models=models(weight=1)[1:], **{key: "bfloat61"})


@pytest.mark.parametrize("place", ["a link", "here"])
def test_an_empty_directory_takes_the_result_by_whatever_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    recipe(folder, merge_method="linear", models=[{"model": "a"}, {"model": "b"}])
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("empty")
    monkeypatch.chdir(folder / "empty")
    assert run(settings(folder, out=str(folder / "link") if place == "a link" else ".")) == 0
    assert (folder / "empty/model.safetensors").exists()


def settings(folder: Path, **given: object) -> dict[str, object]:
    return {"recipe": f"{folder}/recipe.yaml", "out": f"{folder}/out", **given}


def test_a_merge_by_recipe_is_a_checkpoint_with_its_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe(folder, merge_method="task_arithmetic", base_model="pivot", models=models(weight=0.5), dtype="bfloat16")
    assert run(settings(folder, explain=True)) == 0
    assert "TaskArithmetic(weight=(0.5, 0.5), scale=1.0, normalize=False)" in capsys.readouterr().out
    assert not (folder / "out").exists()
    assert run(settings(folder)) == 0
    manifest = json.loads((folder / "out/manifest.json").read_text())
    assert manifest["recipe"]["merge_method"] == "task_arithmetic"
    assert set(manifest["files"]) == {"model.safetensors", "config.json", "coefficients.parquet"}
    held = [load_file(folder / name / "model.safetensors") for name in ("pivot", "a", "b")]
    name = "model.layers.1.mlp.up_proj.weight"
    expected = held[0][name] + 0.5 * (held[1][name] - held[0][name]) + 0.5 * (held[2][name] - held[0][name])
    merged = load_file(folder / "out/model.safetensors")[name]
    torch.testing.assert_close(merged, expected.bfloat16(), rtol=1e-2, atol=1e-2)


def test_what_a_killed_run_left_is_cleared_and_a_full_directory_is_not(folder: Path) -> None:
    recipe(folder, merge_method="linear", models=[{"model": "a"}, {"model": "b"}])
    left = folder / ".out.partial-999999999"
    left.mkdir()
    assert run(settings(folder)) == 0
    assert not left.exists()
    with pytest.raises(Refusal, match="exists and is not empty: give another out"):
        run(settings(folder))


def test_recipe_and_out_are_asked_for(folder: Path) -> None:
    with pytest.raises(Refusal, match="recipe is missing: give recipe=FILE"):
        run({})
    recipe(folder, merge_method="linear", models=[{"model": "a"}, {"model": "b"}])
    with pytest.raises(Refusal, match="out is missing: give out=DIR"):
        run(settings(folder, out=None))


def test_the_command_refuses_with_one_message_and_leaves_nothing_behind(folder: Path) -> None:
    recipe(folder, merge_method="ties", base_model="pivot", models=models(weight=0.2, density=0.5))
    values = load_file(folder / "b/model.safetensors")
    values["model.layers.2.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(values, folder / "b/model.safetensors")
    before = sorted(path.name for path in folder.iterdir())
    command = [sys.executable, "-m", "fusion.merge", f"recipe={folder}/recipe.yaml", f"out={folder}/out"]
    where = folder.parent / "called"
    where.mkdir()
    refused = subprocess.run(
        command, cwd=where, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("refused: parameter 'model.layers.2.mlp.up_proj.weight' of")
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == before
    assert list(where.iterdir()) == []
