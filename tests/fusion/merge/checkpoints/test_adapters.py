"""LoRA adapters as peft writes them: the base's weights with the adapter in them, or one word on what it is more."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.merge.checkpoints.adapters import is_adapter, write_adapted
from fusion.runtime.configure import Refusal

EMBEDDINGS, HEAD, Q = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj"
SHAPES = {EMBEDDINGS: (6, 4), HEAD: (6, 4), f"{Q}.weight": (5, 4), f"{Q}.bias": (5,)}
SCALE = 3 / 2  # lora_alpha / r


@pytest.fixture
def base(tmp_path: Path) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    return untied_or(tmp_path, tensors)


def untied_or(folder: Path, tensors: dict[str, torch.Tensor], *, tied: bool = False) -> dict[str, torch.Tensor]:
    (folder / "base").mkdir(exist_ok=True)
    save_file(tensors, folder / "base/model.safetensors")
    (folder / "base/config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": tied}))
    return tensors


def factors(name: str, out: int, into: int, kind: str = "lora_{}.weight") -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        f"{name}.{kind.format('A')}": torch.randn(2, into, generator=random),
        f"{name}.{kind.format('B')}": torch.randn(out, 2, generator=random),
    }


def adapted(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> dict[str, torch.Tensor]:
    """The base with an adapter of these tensors in it."""
    place = folder / "lora"
    place.mkdir()
    noted = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "base_model_name_or_path": "owner/base", **config}
    (place / "adapter_config.json").write_text(json.dumps(noted))
    held = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(held, place / "adapter_model.safetensors")
    write_adapted(folder / "base", place, folder / "out")
    return load_file(folder / "out/model.safetensors")


def assert_changed(found: dict[str, torch.Tensor], base: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> None:
    """All of the base, with `new` in it."""
    expected = base | new
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


def test_weights_kept_the_other_way_round_get_the_product_turned(tmp_path, base):
    a_b = factors(Q, 4, 5)
    a, b = a_b.values()
    found = adapted(tmp_path, a_b, fan_in_fan_out=True)
    assert_changed(found, base, {f"{Q}.weight": base[f"{Q}.weight"] + SCALE * (b @ a).T})


@pytest.mark.parametrize("saved", [True, False])
def test_embeddings_are_kept_the_other_way_round(tmp_path, base, saved):
    a_b = factors(EMBEDDINGS.removesuffix(".weight"), 4, 6, "lora_embedding_{}")
    whole = {EMBEDDINGS.replace(".weight", ".base_layer.weight"): base[EMBEDDINGS]} if saved else {}
    a, b = a_b.values()
    found = adapted(tmp_path, a_b | whole)
    assert_changed(found, base, {EMBEDDINGS: base[EMBEDDINGS] + SCALE * (b @ a).T})


@pytest.mark.parametrize("spelt", [f"{Q}.bias", f"{Q}.base_layer.bias"])
def test_trained_biases_take_the_place_of_the_bases(tmp_path, base, spelt):
    a_b = factors(Q, 5, 4)
    a, b = a_b.values()
    found = adapted(tmp_path, a_b | {spelt: torch.arange(5.0)}, bias="lora_only")
    assert_changed(found, base, {f"{Q}.weight": base[f"{Q}.weight"] + SCALE * b @ a, f"{Q}.bias": torch.arange(5.0)})


@pytest.mark.parametrize("spelt", ["{}.weight", "{}.modules_to_save.weight", "{}.modules_to_save.default.weight"])
def test_what_was_trained_whole_takes_its_place(tmp_path, base, spelt):
    found = adapted(tmp_path, {spelt.format("lm_head"): torch.ones(6, 4)}, modules_to_save=["lm_head"])
    assert_changed(found, base, {HEAD: torch.ones(6, 4)})


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("trained", ["factors", "whole", "both whole"])
def test_a_head_trained_on_a_tied_base_is_one_of_its_own(tmp_path, base, stored, trained):
    embeddings = base[EMBEDDINGS]
    tensors = {name: tensor for name, tensor in base.items() if name != HEAD}
    untied_or(tmp_path, tensors | ({HEAD: embeddings.clone()} if stored else {}), tied=True)
    a_b = factors("lm_head", 6, 4)
    a, b = a_b.values()
    new = {HEAD: torch.full((6, 4), 2.0)} | ({EMBEDDINGS: torch.ones(6, 4)} if trained == "both whole" else {})
    found = adapted(tmp_path, a_b if trained == "factors" else new)
    if trained == "factors":
        new = {HEAD: embeddings + SCALE * b @ a}
    assert_changed(found, tensors, new)
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False


def test_embeddings_trained_on_a_tied_base_are_refused_unless_the_head_is_said_to_follow(tmp_path, base):
    tensors = untied_or(tmp_path, {name: tensor for name, tensor in base.items() if name != HEAD}, tied=True)
    new = {EMBEDDINGS: torch.ones(6, 4)}
    with pytest.raises(Refusal, match=f"trained {EMBEDDINGS}, .*does not say whether the head follows.*merge_and_unl"):
        adapted(tmp_path, new)
    (tmp_path / "lora/adapter_config.json").unlink()
    (tmp_path / "lora/adapter_model.safetensors").unlink()
    (tmp_path / "lora").rmdir()
    assert_changed(adapted(tmp_path, new, ensure_weight_tying=True), tensors, new)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"use_dora": True}, "has use_dora"),
        ({"use_qalora": True}, "has use_qalora"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "has layer_replication"),
        ({"target_parameters": ["experts.down_proj"]}, "has target_parameters"),
        ({"trainable_token_indices": [1]}, "has trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights pissa_niter_16, which took A and B out of"),
        ({"init_lora_weights": "olora"}, "init_lora_weights olora"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights loftq"),
    ],
)
def test_settings_of_another_update_are_refused(tmp_path, base, config, said):
    with pytest.raises(Refusal, match=f"{said}.*merge_and_unload"):
        adapted(tmp_path, factors(Q, 5, 4), **config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_initialisations_that_leave_the_base_alone_are_taken(tmp_path, base, init):
    a_b = factors(Q, 5, 4)
    a, b = a_b.values()
    found = adapted(tmp_path, a_b, init_lora_weights=init)
    assert_changed(found, base, {f"{Q}.weight": base[f"{Q}.weight"] + SCALE * b @ a})


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({f"{Q}.lora_A.weight": torch.ones(2, 4, 3, 3), f"{Q}.lora_B.weight": torch.ones(5, 2, 1, 1)}, "more than W"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 4), f"{Q}.lora_B.weight": torch.ones(5, 3)}, "of one rank"),
        ({f"{Q}.lora_A.weight": torch.ones(0, 4), f"{Q}.lora_B.weight": torch.ones(5, 0)}, "of one rank"),
        ({f"{Q}.lora_A.weight": torch.full((2, 4), torch.nan), f"{Q}.lora_B.weight": torch.ones(5, 2)}, "NaN"),
        ({"model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 4)}, "more than W"),
        ({f"{EMBEDDINGS}": torch.ones(8, 4)}, "of shape .8, 4., and its base .6, 4.: resize"),
    ],
)
def test_tensors_of_another_update_are_refused(tmp_path, base, tensors, said):
    with pytest.raises(Refusal, match=f"lora.*{said}"):
        adapted(tmp_path, tensors)


@pytest.mark.parametrize(
    "config",
    [
        {"lora_alpha": None},
        {"lora_alpha": "big"},
        {"lora_alpha": float("inf")},
        {"alpha_pattern": ["q_proj"]},
        {"alpha_pattern": {"(": 3}},
        {"alpha_pattern": {"q_proj": None}},
    ],
)
def test_an_alpha_that_is_no_number_is_refused(tmp_path, base, config):
    with pytest.raises(Refusal, match="lora_alpha.* of .*adapter_config.json"):
        adapted(tmp_path, factors(Q, 5, 4), **config)


def test_a_quantised_base_is_called_so(tmp_path, base):
    untied_or(
        tmp_path, base | {f"{Q}.weight": torch.ones(10, 1, dtype=torch.uint8), f"{Q}.weight.absmax": torch.ones(1)}
    )
    with pytest.raises(Refusal, match="base is quantised"):
        adapted(tmp_path, factors(Q, 5, 4))


@pytest.mark.parametrize(("content", "said"), [(b"\0" * 40, "not readable as safetensors"), (None, "is pickled")])
def test_an_adapters_damaged_or_pickled_weights_are_called_so(tmp_path, base, content, said):
    place = tmp_path / "lora"
    place.mkdir()
    (place / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (place / ("adapter_model.bin" if content is None else "adapter_model.safetensors")).write_bytes(content or b"x")
    with pytest.raises(Refusal, match=f"adapter_model.*{said}"):
        write_adapted(tmp_path / "base", place, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "adapter"),
    [
        ({"adapter_config.json", "adapter_model.safetensors"}, True),
        ({"adapter_config.json", "adapter_model.safetensors", "config.json", "training_args.bin"}, True),
        ({"adapter_config.json", "adapter_model.bin"}, True),
        ({"adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"}, False),
        ({"adapter_config.json", "config.json", "pytorch_model.bin"}, False),
        ({"config.json", "model.safetensors"}, False),
    ],
)
def test_a_folder_is_an_adapter_by_its_weights(tmp_path, files, adapter):
    for name in files:
        (tmp_path / name).write_text("{}")
    assert is_adapter(tmp_path) is adapter
