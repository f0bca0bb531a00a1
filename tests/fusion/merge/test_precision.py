"""What rounding loses of an update: the type a merge is written in, what is measured of it, and stochastic rounding.

The models are as published ones are: a pivot in bf16 with weights of about 0.05, targets in fp32 that are 2e-5 away.
A step of bf16 is 2**-12 = 2.4e-4 at weights from 1/32 to 1/16, so to nearest nearly all of such an update is lost.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fusion.merge import parameter as parameter_module
from fusion.merge.__main__ import merge_recipe
from fusion.merge.checkpoint_stream import merge
from fusion.merge.dare import Dare
from fusion.merge.linear import Linear
from fusion.merge.recipe import read_recipe
from fusion.merge.sce import Sce
from fusion.merge.stochastic import drawn, rounding_key
from fusion.merge.task_arithmetic import TaskArithmetic
from fusion.merge.ties import Ties
from fusion.precision import Kept, kept_as_served, kept_as_stored

ROOT = Path(__file__).parents[3]
SHAPES = {
    "model.embed_tokens.weight": (50, 40),
    "model.layers.0.mlp.up_proj.weight": (60, 40),
    "model.norm.weight": (41,),
}
SCALE, UPDATE = 0.05, 2e-5


def pivot_weights() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {name: (SCALE * torch.randn(shape, generator=random)).bfloat16() for name, shape in SHAPES.items()}


def target_weights(number: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(100 + number)
    return {n: t.float() + UPDATE * torch.randn(t.shape, generator=random) for n, t in pivot_weights().items()}


def written(directory: Path, tensors: dict[str, torch.Tensor], dtype: str) -> Path:
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": dtype}))
    return directory


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, list[Path]]:
    pivot = written(tmp_path / "pivot", pivot_weights(), "bfloat16")
    return pivot, [written(tmp_path / f"target-{k}", target_weights(k), "float32") for k in range(3)]


def merged(models: tuple[Path, list[Path]], out: Path, rule=None, **given) -> tuple[dict[str, torch.Tensor], dict]:
    pivot, targets = models
    facts = merge(pivot=pivot, targets=targets, rule=rule or Linear(), out=out, **given)
    return load_file(out / "model.safetensors"), facts


def left(whole: list[torch.Tensor], held: list[torch.Tensor]) -> tuple[float, float, float]:
    """Cosine, norm ratio and share of entries that are not zero, in float64."""
    one, other = (torch.cat([part.double().reshape(-1) for part in parts]) for parts in (whole, held))
    both = float(one.norm() * other.norm())
    cosine = float(one @ other) / both if both else float("nan")
    return cosine, float(other.norm() / one.norm()), float((other != 0).double().mean())


def test_targets_in_fp32_of_a_pivot_in_bf16_are_merged_in_fp32(models, tmp_path):
    found, facts = merged(models, tmp_path / "out", Linear(weight=1.0))
    for name in SHAPES:
        mean = sum(target_weights(k)[name].double() for k in range(3)) / 3
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), mean, rtol=1e-6, atol=1e-9)
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "float32"
    types = {"pivot": "bfloat16", "targets": ["float32"] * 3, "stored": "float32", "rounding": "nearest"}
    assert facts["dtype"] == types
    assert facts["bytes"] == 4 * facts["elements"]
    assert facts["update"]["stored"] == {"cosine": 1.0, "norm_ratio": 1.0, "moved": pytest.approx(1, abs=1e-2)}


def test_every_parameter_has_the_widest_type_of_its_own(models, tmp_path):
    pivot, targets = models
    for k, target in enumerate(targets):
        weights = target_weights(k)
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].bfloat16()
        save_file(weights, target / "model.safetensors")
    found, facts = merged((pivot, targets), tmp_path / "out")
    kinds = {name: tensor.dtype for name, tensor in found.items()}
    assert kinds == dict.fromkeys(SHAPES, torch.float32) | {"model.embed_tokens.weight": torch.bfloat16}
    assert facts["dtype"]["stored"] == "bfloat16, float32"
    # 2,441 entries in fp32 and 2,000 in bf16.
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "float32"
    with safe_open(tmp_path / "out/model.safetensors", framework="np") as stream:
        offset = 0
        for name in stream.offset_keys():  # in the order of the file
            size = {torch.float32: 4, torch.bfloat16: 2}[kinds[name]]
            assert offset % size == 0
            offset += size * found[name].numel()


@pytest.mark.parametrize("rule", [Linear(), TaskArithmetic(weight=0.4), Ties(), Sce(select_topk=0.5)], ids=str)
def test_fp32_models_are_merged_without_any_rounding_to_fewer_bits(rule, tmp_path):
    """Against the rule's formula in float64: 1e-7 is 2**-23, fp32's; bf16 would be 4e-3 off."""
    pivot = {n: t.float() * (1 + 2.0**-11) for n, t in pivot_weights().items()}
    weights = [{n: pivot[n] + 0.01 * (target_weights(k)[n] - pivot[n]) / UPDATE for n in SHAPES} for k in range(3)]
    directory = written(tmp_path / "pivot", pivot, "float32")
    targets = [written(tmp_path / f"t{k}", held, "float32") for k, held in enumerate(weights)]
    found, facts = merged((directory, targets), tmp_path / "out", rule)
    rows = parquet.read_table(tmp_path / "out/coefficients.parquet").to_pylist()
    for name in SHAPES:
        start = pivot[name].double()
        deltas = torch.stack([held[name].double() - start for held in weights])
        if isinstance(rule, Linear):
            expected = start + deltas.mean(0)
        elif isinstance(rule, TaskArithmetic):
            expected = start + 0.4 * deltas.sum(0)
        else:
            expected = by_definition(rule, start, deltas)
        torch.testing.assert_close(found[name].double(), expected, rtol=0, atol=1e-7)
        (result,) = (row for row in rows if row["parameter"] == name and row["target"] == "(merged)")
        assert result["delta_norm"] == pytest.approx(float((expected - start).norm()), rel=1e-5)
        assert result["update_cosine"] == pytest.approx(1, abs=1e-6)
        assert result["update_norm_ratio"] == pytest.approx(1, abs=1e-6)
    assert facts["dtype"]["stored"] == "float32"


def by_definition(rule: Ties | Sce, start: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """TIES (density 0.6, equal weights, mean) and SCE (the paper's) on one parameter, as their papers put them."""
    flat = deltas.reshape(3, -1)
    kept = torch.zeros_like(flat)
    if isinstance(rule, Ties):
        for vector, out in zip(flat, kept, strict=True):
            chosen = vector.abs().topk(int(0.6 * flat.shape[1])).indices
            out[chosen] = vector[chosen]
        shares = torch.full((3,), 1.0, dtype=torch.float64)
    else:
        chosen = flat.var(0).topk(int(0.5 * flat.shape[1])).indices
        kept[:, chosen] = flat[:, chosen]
        energies = kept.square().sum(1)
        shares = energies / energies.sum()
    sign = torch.where(kept.sum(0) >= 0, 1.0, -1.0)
    agrees = (kept * sign > 0).double()
    total = (shares[:, None] * kept * agrees).sum(0)
    if isinstance(rule, Ties):
        total = total / (agrees.sum(0)).clamp(min=1)
    return start + total.reshape(start.shape)


def test_what_rounding_to_bf16_leaves_of_the_update_is_measured_in_the_same_pass(models, tmp_path):
    found, facts = merged(models, tmp_path / "out", Linear(weight=1.0), dtype="bfloat16")
    exact = {name: sum(target_weights(k)[name].double() for k in range(3)) / 3 for name in SHAPES}
    assert all(torch.equal(found[name], exact[name].float().bfloat16()) for name in SHAPES)
    start = pivot_weights()
    whole = {name: exact[name] - start[name].double() for name in SHAPES}
    held = {name: found[name].double() - start[name].double() for name in SHAPES}
    cosine, ratio, moved = left([*whole.values()], [*held.values()])
    stored = facts["update"]["stored"]
    assert (stored["cosine"], stored["norm_ratio"], stored["moved"]) == pytest.approx((cosine, ratio, moved), abs=1e-4)
    assert cosine < 0.5  # the fault this measures
    assert moved < 0.1
    rows = {
        row["parameter"]: row
        for row in parquet.read_table(tmp_path / "out/coefficients.parquet").to_pylist()
        if row["target"] == "(merged)"
    }
    for name in SHAPES:
        cosine, ratio, moved = left([whole[name]], [held[name]])
        row = rows[name]
        assert row["kept_fraction"] == pytest.approx(moved)
        assert row["update_norm_ratio"] == pytest.approx(ratio, rel=1e-4, abs=1e-6)
        if moved:
            assert row["update_cosine"] == pytest.approx(cosine, rel=1e-4)
        else:
            assert row["update_cosine"] is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_a_server_in_16_bits_would_keep_of_fp32_files_is_measured_too(dtype, models, tmp_path):
    found, facts = merged(models, tmp_path / "out", Linear(weight=1.0))
    start, kind = pivot_weights(), getattr(torch, dtype)
    held = [found[name].to(kind).double() - start[name].to(kind).double() for name in SHAPES]
    cosine, ratio, moved = left([found[name].double() - start[name].double() for name in SHAPES], held)
    kept = facts["update"][dtype]
    assert (kept["cosine"], kept["norm_ratio"], kept["moved"]) == pytest.approx((cosine, ratio, moved), abs=1e-4)
    assert kept_as_served(facts, dtype) == Kept(**kept)
    assert kept_as_served(facts, "float32") == kept_as_stored(facts)
    assert kept_as_served(facts, None) is None


def test_files_of_16_bits_are_measured_as_they_are(models, tmp_path):
    _, facts = merged(models, tmp_path / "out", dtype="bfloat16")
    assert list(facts["update"]) == ["stored"]
    assert kept_as_served(facts, "bfloat16") == kept_as_served(facts, "float32") == kept_as_stored(facts)
    assert kept_as_served(facts, "float16") is None  # nobody measured it


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stochastic_rounding_keeps_the_mean(dtype):
    """Of n draws of one value between neighbours d apart the mean is within 5 d / (2 sqrt n) of it: the deviation of
    one draw is at most d / 2, five of the mean's are passed once in 1.7 million times."""
    n, kind = 4 * 25_000, getattr(torch, dtype)
    values = [0.0512, -0.0512, 1.0 + 1e-4, 3e-6, -1e-7, 60_001.0, 0.03125]  # of fp16 the small ones are subnormal
    for number, value in enumerate(values):
        exact = torch.full((n,), value)
        code = {"bfloat16": "BF16", "float16": "F16"}[dtype]
        rounded = drawn(exact, code, rounding_key(0, f"value {number}"), 0).double()
        wanted = float(exact[0])
        neighbours = sorted(set(rounded.tolist()))
        if len(neighbours) == 1:
            assert neighbours == [float(exact[0].to(kind))]
            assert neighbours[0] == wanted  # nothing to draw: the type has the number
            continue
        below, above = neighbours  # no more than two
        assert below < wanted < above
        nearest = float(exact[0].to(kind))
        assert nearest in (below, above)
        assert abs(float(rounded.mean()) - wanted) < 5 * (above - below) / (2 * n**0.5)


def test_stochastic_rounding_of_a_merge_keeps_the_update_in_the_mean(models, tmp_path):
    """The share along the update, sum u r / sum u^2 of what is left r, is 1 but for the noise of the draws: between two
    neighbours d apart, at f d above the lower, a draw's variance is d^2 f (1 - f)."""
    found, facts = merged(models, tmp_path / "out", Linear(weight=1.0), dtype="bfloat16", rounding="stochastic", seed=1)
    exact, _ = merged(models, tmp_path / "exact", Linear(weight=1.0))
    start = pivot_weights()
    values = torch.cat([exact[n].reshape(-1) for n in SHAPES])
    whole = values.double() - torch.cat([start[n].double().reshape(-1) for n in SHAPES])
    held = torch.cat([(found[n].double() - start[n].double()).reshape(-1) for n in SHAPES])
    share = float(held @ whole) / float(whole @ whole)
    steps = 2.0 ** (torch.frexp(values.double()).exponent.double() - 8)  # bf16 has 8 significant bits
    fraction = (values.view(torch.int32) & 0xFFFF).double() / 2**16  # of the bits of fp32 that bf16 drops
    variance = (whole * steps).square() * fraction * (1 - fraction)
    deviation = float(variance.sum().sqrt()) / float(whole @ whole)
    assert abs(share - 1) < 5 * deviation
    stored = facts["update"]["stored"]
    assert stored["cosine"] * stored["norm_ratio"] == pytest.approx(share, rel=1e-3)
    assert facts["dtype"]["rounding"] == "stochastic"
    nearest, _ = merged(models, tmp_path / "nearest", Linear(weight=1.0), dtype="bfloat16")
    lost = torch.cat([(nearest[n].double() - start[n].double()).reshape(-1) for n in SHAPES])
    assert abs(float(lost @ whole) / float(whole @ whole) - 1) > 5 * deviation  # so the bound tells them apart


def test_draws_are_the_same_whatever_the_pieces_threads_and_shards(models, tmp_path, monkeypatch):
    _, targets = models
    given = {"dtype": "bfloat16", "rounding": "stochastic", "seed": 3}
    whole, _ = merged(models, tmp_path / "whole", threads=1, **given)
    monkeypatch.setattr("fusion.merge.checkpoint_stream.PIECE", 64)
    monkeypatch.setattr(parameter_module, "PIECE", 64)
    pieces, _ = merged(models, tmp_path / "pieces", threads=2, **given)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    weights = pivot_weights()
    files = {name: f"model-{i}.safetensors" for i, name in enumerate(reversed(weights))}
    for name, file in files.items():
        save_file({name: weights[name]}, sharded / file)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    merge(pivot=sharded, targets=targets, rule=Linear(), out=tmp_path / "shards", **given)
    shards = {n: t for file in (tmp_path / "shards").glob("*.safetensors") for n, t in load_file(file).items()}
    for name in SHAPES:
        assert torch.equal(whole[name], pieces[name])
        assert torch.equal(whole[name], shards[name])
    other, _ = merged(models, tmp_path / "other", **(given | {"seed": 4}))
    assert not torch.equal(whole["model.norm.weight"], other["model.norm.weight"])


def test_a_tied_head_is_rounded_as_its_embeddings_are(tmp_path):
    """Both lie in the files of a target, and a model reads only one of them."""
    embeddings = {"model.embed_tokens.weight": (40, 30), "lm_head.weight": (40, 30)}
    start = pivot_weights()["model.embed_tokens.weight"].reshape(-1)[:1200].reshape(40, 30)
    moved = start.float() + UPDATE * torch.randn((40, 30), generator=torch.Generator().manual_seed(1))
    pivot = written(tmp_path / "pivot", {name: start.clone() for name in embeddings}, "bfloat16")
    target = written(tmp_path / "target", {name: moved.clone() for name in embeddings}, "float32")
    for directory in (pivot, target):
        (directory / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": True}))
    found, _ = merged((pivot, [target]), tmp_path / "out", dtype="bfloat16", rounding="stochastic")
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
    assert not torch.equal(found["lm_head.weight"], start)


def test_rounding_draws_other_words_than_dares_masks(models, tmp_path):
    """With one target DARE keeps delta / density or nothing; were its words used again, what it kept (words below the
    density) would always be rounded alike.  Of the kept entries a share is rounded up that the fractions predict."""
    pivot, targets = models
    rule = Dare(density=0.5, weight=1.0)
    exact, _ = merged((pivot, targets[:1]), tmp_path / "exact", rule, dtype="float32", seed=7)
    found, _ = merged((pivot, targets[:1]), tmp_path / "out", rule, dtype="bfloat16", rounding="stochastic", seed=7)
    up, expected, variance = 0, 0.0, 0.0
    for name, start in pivot_weights().items():
        bits = exact[name].reshape(-1).view(torch.int32)
        chosen = exact[name].reshape(-1) != start.float().reshape(-1)
        fraction = (bits & 0xFFFF).double() / 2**16
        outward = found[name].float().reshape(-1).view(torch.int32) != (bits & ~0xFFFF)
        up += int(outward[chosen].sum())
        expected += float(fraction[chosen].sum())
        variance += float((fraction * (1 - fraction))[chosen].sum())
    assert abs(up - expected) < 5 * variance**0.5


def test_the_command_says_what_is_lost_and_a_recipe_can_refuse_it(models, tmp_path):
    sources = [{"model": f"target-{k}", "parameters": {"weight": 1.0}} for k in range(3)]
    recipe = {"merge_method": "linear", "base_model": "pivot", "models": sources}

    def command(name: str, **keys: object) -> subprocess.CompletedProcess[str]:
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe | keys))
        given = [f"recipe={tmp_path}/{name}.yaml", f"out={tmp_path}/{name}"]
        return subprocess.run(
            [sys.executable, "-m", "fusion.merge", *given], cwd=ROOT, capture_output=True, text=True, check=False
        )

    whole = command("whole")
    assert whole.returncode == 0
    assert "loses" not in whole.stderr
    assert load_file(tmp_path / "whole/model.safetensors")["model.norm.weight"].dtype == torch.float32
    lost = command("lost", dtype="bfloat16")
    assert lost.returncode == 0
    told = "note: the merge, written in bfloat16, loses a part of what training changed (cosine 0."
    assert told in lost.stderr
    manifest = json.loads((tmp_path / "lost/manifest.json").read_text())
    assert any(told.removeprefix("note: ") in note for note in manifest["notes"])
    assert manifest["facts"]["update"]["stored"]["cosine"] < 0.5
    refused = command("refused", dtype="bfloat16", lost_update="refuse")
    assert refused.returncode == 2
    assert "set dtype: float32" in refused.stderr
    assert not (tmp_path / "refused").exists()


def test_a_recipe_chooses_stochastic_rounding(models, tmp_path):
    sources = [{"model": f"target-{k}", "parameters": {"weight": 1.0}} for k in range(3)]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({
        "merge_method": "linear", "base_model": "pivot", "models": sources, "dtype": "bfloat16",
        "rounding": "stochastic", "seed": 9,
    }))  # fmt: skip
    plan = read_recipe(tmp_path / "recipe.yaml")
    merge_recipe(plan, out=tmp_path / "by-recipe", seed=plan.recipe.seed)
    here, _ = merged(models, tmp_path / "here", Linear(weight=1.0), dtype="bfloat16", rounding="stochastic", seed=9)
    again = load_file(tmp_path / "by-recipe/model.safetensors")
    assert all(torch.equal(again[name], here[name]) for name in SHAPES)
    np.testing.assert_array_equal(sorted(again), sorted(SHAPES))
