"""Models of several families as transformers saves them: the merge is the mean of their weights, and loads."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fusion.merge import MERGE_RULES
from fusion.merge.checkpoints.checkpoint_stream import merge

SMALL = {"vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
FEW_HEADS = {**SMALL, "num_key_value_heads": 1}
FAMILIES = {
    "gpt2": transformers.GPT2Config(vocab_size=24, n_embd=8, n_layer=2, n_head=2, n_positions=16),
    "gpt_neox": transformers.GPTNeoXConfig(**SMALL),
    "gemma2": transformers.Gemma2Config(**FEW_HEADS, head_dim=4),
    "phi": transformers.PhiConfig(**SMALL),
    "mixtral": transformers.MixtralConfig(**FEW_HEADS, num_local_experts=2),
}


def saved(place: Path, config: transformers.PretrainedConfig, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(place)
    return load_file(place / "model.safetensors")


def answer(place: Path) -> torch.Tensor:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        return model(torch.arange(3, 9)[None]).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_of_two_models_answers_as_it_would_from_memory(tmp_path, family):
    ours, theirs = (saved(tmp_path / name, FAMILIES[family], seed) for seed, name in enumerate(("pivot", "target")))
    merge(
        pivot=tmp_path / "pivot",
        targets=[tmp_path / "target"],
        rule=MERGE_RULES["task_arithmetic"](weight=0.5),
        out=tmp_path / "out",
    )
    merged = answer(tmp_path / "out")
    save_file({name: (ours[name] + theirs[name]) / 2 for name in ours}, tmp_path / "pivot/model.safetensors")
    torch.testing.assert_close(merged, answer(tmp_path / "pivot"))


@pytest.mark.parametrize("short", ["pivot", "target"])
def test_gpt2_as_the_hub_has_it_and_as_transformers_saves_it_are_one_family(tmp_path, short):
    held = {name: saved(tmp_path / name, FAMILIES["gpt2"], seed) for seed, name in enumerate(("pivot", "target"))}
    plain = {name.removeprefix("transformer."): tensor for name, tensor in held[short].items()}
    save_file(plain, tmp_path / short / "model.safetensors", {"format": "pt"})
    merge(
        pivot=tmp_path / "pivot",
        targets=[tmp_path / "target"],
        rule=MERGE_RULES["linear"](weight=1.0),
        out=tmp_path / "out",
    )
    merged = answer(tmp_path / "out")
    torch.testing.assert_close(merged, answer(tmp_path / "target"))
