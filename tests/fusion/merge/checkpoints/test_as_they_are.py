"""Checkpoints as people have them: merged to something that loads, or refused with the way out."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from fusion.merge import MERGE_RULES
from fusion.merge.checkpoints.checkpoint_plan import examine
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.runtime.configure import Refusal

CONFIG = LlamaConfig(
    vocab_size=24,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
)
HALF = MERGE_RULES["task_arithmetic"](weight=0.5)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A pivot and a target, each of one file."""
    for number, name in enumerate(("pivot", "target")):
        torch.manual_seed(number)
        AutoModelForCausalLM.from_config(CONFIG).save_pretrained(tmp_path / name)
    return tmp_path / "pivot", tmp_path / "target"


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {n: t for file in sorted(directory.glob("model*.safetensors")) for n, t in load_file(file).items()}


def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    found = tensors(directory)
    change(found)
    save_file({n: t.contiguous() for n, t in found.items()}, directory / "model.safetensors", {"format": "pt"})


def configure(directory: Path, **keys: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **keys}))


def split(directory: Path, parts: int, pattern: str, index: bool = False) -> None:
    """The one file as several, with an index if asked for."""
    found = tensors(directory)
    (directory / "model.safetensors").unlink()
    places = {}
    for part in range(parts):
        own = dict(list(found.items())[part::parts])
        name = pattern.format(part + 1, parts)
        save_file(own, directory / name, {"format": "pt"})
        places |= dict.fromkeys(own, name)
    if index:
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def assert_merged(out: Path, pivot: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> None:
    """The merge by HALF is the middle, and transformers loads it whole."""
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    loaded = model.state_dict()
    for name, tensor in pivot.items():
        torch.testing.assert_close(loaded[name], (tensor + target[name]) / 2)


@pytest.mark.parametrize(
    ("pattern", "index"),
    [
        ("model-{:05d}-of-{:05d}.safetensors", False),
        ("model-{:05d}-of-{:05d}.safetensors", True),
        ("part{}of{}.safetensors", False),
        ("part{}of{}.safetensors", True),
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_whatever_the_pivots_files_are_called_the_result_loads(models, tmp_path, pattern, index, parts):
    pivot, target = models
    ours, theirs = tensors(pivot), tensors(target)
    split(pivot, parts, pattern, index)
    merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")
    assert_merged(tmp_path / "out", ours, theirs)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == parts


def test_a_set_of_shards_that_is_not_whole_is_refused(models, tmp_path):
    pivot, target = models
    split(target, 3, "model-{:05d}-of-{:05d}.safetensors")
    (target / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(Refusal, match="shards are not one whole set: model-00001-of-00003.*copy the missing"):
        merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")


def test_consolidated_weights_beside_the_shards_are_not_read_and_alone_are_refused(models, tmp_path):
    pivot, target = models
    ours, theirs = tensors(pivot), tensors(target)
    split(pivot, 2, "model-{:05d}-of-{:05d}.safetensors")
    save_file({"tok_embeddings.weight": torch.ones(24, 8)}, pivot / "consolidated.00.safetensors")
    merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")
    assert_merged(tmp_path / "out", ours, theirs)
    (target / "model.safetensors").rename(target / "consolidated.safetensors")
    with pytest.raises(Refusal, match=r"only consolidated\.safetensors.*Hugging Face's layout"):
        merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "again")


def test_a_whole_file_beside_an_index_of_others_is_refused(models, tmp_path):
    pivot, target = models
    shutil.copy(target / "model.safetensors", tmp_path / "kept")
    split(target, 2, "model-{:05d}-of-{:05d}.safetensors", index=True)
    shutil.copy(tmp_path / "kept", target / "model.safetensors")
    with pytest.raises(Refusal, match="holds model.safetensors and an index of other files.*delete the one"):
        merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")


@pytest.mark.parametrize("file", ["[]", '{"weight_map": {}}', '{"weight_map": {"a": "../x"}}', '{"weight_map": 3}'])
def test_an_index_that_names_no_files_is_refused(models, tmp_path, file):
    pivot, target = models
    (target / "model.safetensors.index.json").write_text(file)
    with pytest.raises(Refusal, match="expected an index with a weight_map"):
        merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")


BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
    "model.layers.1.self_attn.rotary_emb.cos_cached": torch.ones(1, 1, 4, 4),
    "model.layers.0.attn.bias": torch.ones(1, 1, 6, 6, dtype=torch.bool),
    "model.layers.0.attention.masked_bias": torch.tensor(-1e4),
    "model.position_ids": torch.arange(6)[None],
}


@pytest.mark.parametrize("name", BUFFERS)
@pytest.mark.parametrize("side", [0, 1])
def test_buffers_of_old_releases_neither_block_a_merge_nor_change_it(models, tmp_path, name, side):
    ours, theirs = tensors(models[0]), tensors(models[1])
    rewrite(models[side], lambda found: found.update({name: BUFFERS[name]}))
    merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")
    merged = tensors(tmp_path / "out")
    assert (name in merged) == (side == 0)
    for parameter in ours:
        torch.testing.assert_close(merged[parameter], (ours[parameter] + theirs[parameter]) / 2)


def test_a_real_bias_of_attention_is_a_parameter(models, tmp_path):
    for number, model in enumerate(models):
        rewrite(model, lambda found, n=number: found.update({"model.layers.0.attn.bias": torch.full((8,), float(n))}))
    merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")
    assert tensors(tmp_path / "out")["model.layers.0.attn.bias"].tolist() == [0.5] * 8


@pytest.mark.parametrize("rows", [20, 30])
def test_a_vocabulary_of_another_size_is_refused_or_its_common_rows_are_merged(models, tmp_path, rows):
    pivot, target = models
    ours, theirs = tensors(pivot), tensors(target)
    embeddings = ("model.embed_tokens.weight", "lm_head.weight")

    def resize(found: dict[str, torch.Tensor]) -> None:
        for name in embeddings:
            found[name] = torch.cat([found[name], torch.ones(9, 8)])[:rows]

    rewrite(target, resize)
    configure(target, vocab_size=rows)
    with pytest.raises(Refusal, match="embeddings: cut merges the rows that both have"):
        merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")
    merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "cut", embeddings="cut")
    common = min(rows, 24)
    for name, merged in tensors(tmp_path / "cut").items():
        expected = (ours[name] + theirs[name]) / 2
        if name in embeddings:
            expected = torch.cat([expected[:common], ours[name][common:]])
        torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("prefix", ["language_model.model.", "transformer.", "model.language_model."])
def test_embeddings_are_known_wherever_they_lie(tmp_path, prefix):
    name = f"{prefix}embed_tokens.weight"
    for folder, rows in (("p", 6), ("t", 8)):
        (tmp_path / folder).mkdir()
        save_file({name: torch.full((rows, 2), float(rows))}, tmp_path / folder / "model.safetensors")
    merge(pivot=tmp_path / "p", targets=[tmp_path / "t"], rule=HALF, out=tmp_path / "out", embeddings="cut")
    assert tensors(tmp_path / "out")[name].tolist() == [[7.0, 7.0]] * 6


def test_each_stack_of_layers_has_its_own_depth(tmp_path):
    names = [
        "language_model.model.embed_tokens.weight",
        *(f"language_model.model.layers.{i}.mlp.weight" for i in range(2)),
        *(f"vision_tower.encoder.layers.{i}.mlp.weight" for i in range(5)),
    ]
    for folder in ("p", "t"):
        (tmp_path / folder).mkdir()
        save_file({name: torch.ones(2, 2) for name in names}, tmp_path / folder / "model.safetensors")
    found = {c.name: (c.layer, c.layers, c.in_language) for c in examine(tmp_path / "p", [tmp_path / "t"]).contexts}
    assert found["language_model.model.layers.1.mlp.weight"] == (1, 2, True)
    assert found["vision_tower.encoder.layers.4.mlp.weight"] == (4, 5, False)
    assert found["language_model.model.embed_tokens.weight"] == (None, None, True)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("seen", ["config", "file", "parameters"])
def test_a_quantised_model_is_called_so(models, tmp_path, side, seen):
    if seen == "config":
        configure(models[side], quantization_config={"quant_method": "awq", "bits": 4})
    elif seen == "file":
        (models[side] / "quantize_config.json").write_text('{"bits": 4}')
    else:
        coded = {"model.layers.0.mlp.up_proj.qweight": torch.ones(2, 2, dtype=torch.int32)}
        rewrite(models[side], lambda found: found.update(coded))
    with pytest.raises(Refusal, match=f"{models[side].name} is quantised .*Merge the model it was made from"):
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("ours", "theirs", "named"),
    [
        ({"rope_theta": 1e4, "rope_parameters": None}, {"rope_theta": 1e6, "rope_parameters": None}, "rope_theta"),
        ({"rope_parameters": {"rope_theta": 1e4}}, {"rope_theta": 1e6, "rope_parameters": None}, "rope_theta"),
        ({"attention_multiplier": 1.0}, {"attention_multiplier": 2.0}, "attention_multiplier"),
        ({"text_config": {"sliding_window": 4}}, {"text_config": {"sliding_window": 8}}, "text_config.sliding_window"),
    ],
)
def test_settings_that_change_what_weights_compute_are_named(models, tmp_path, ours, theirs, named):
    for model, keys in zip(models, (ours, theirs), strict=True):
        configure(model, **keys)
    with pytest.warns(UserWarning, match=rf"^{named} is .* the merged model has the pivot's"):
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")


def test_settings_without_effect_are_not_worth_a_word(models, tmp_path):
    configure(models[1], use_cache=False, transformers_version="4.1", _name_or_path="x", attention_dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")


def slow_tokenizer(directory: Path, order: list[str], kind: str) -> None:
    if kind == "bpe":
        (directory / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(order)}))
        (directory / "merges.txt").write_text("#version: 0.2\na b\n")
    elif kind == "wordpiece":
        (directory / "vocab.txt").write_text("\n".join(order) + "\n")
    else:
        (directory / "tokenizer.model").write_bytes("".join(order).encode())


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "sentencepiece"])
def test_slow_tokenizers_are_compared_too(models, tmp_path, kind):
    for model in models:
        slow_tokenizer(model, ["a", "b", "c"], kind)
    merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "same")
    slow_tokenizer(models[1], ["c", "b", "a"], kind)
    with pytest.raises(Refusal, match="the tokenizers of .*target and the pivot .* differ"):
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "other")


@pytest.mark.parametrize("kind", ["", "sentencepiece"])
def test_tokenizers_that_cannot_be_compared_are_said_to_be(models, tmp_path, kind):
    slow_tokenizer(models[0], ["a", "b"], "bpe")
    if kind:
        slow_tokenizer(models[1], ["a", "b"], kind)
    with pytest.warns(UserWarning, match="were not compared"):
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")


def test_a_models_own_code_goes_along_with_what_it_imports_and_nothing_else(models, tmp_path):
    pivot, target = models
    (pivot / "modeling_own.py").write_text("from .parts import x\nfrom . import more\nimport os\n")
    for name in ("parts", "more", "unused"):
        (pivot / f"{name}.py").write_text("x = 1\n")
    (pivot / "tokenization_own.py").write_text("")
    configure(pivot, auto_map={"AutoModel": "modeling_own.Own", "AutoConfig": "someone/else--configuration.Far"})
    (pivot / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": [null, "tokenization_own.Own"]}}')
    merge(pivot=pivot, targets=[target], rule=HALF, out=tmp_path / "out")
    expected = {"modeling_own.py", "parts.py", "more.py", "tokenization_own.py"}
    assert {path.name for path in (tmp_path / "out").glob("*.py")} == expected


TOKENIZERS = {
    "no JSON": ("tokenizer.json", b'{"model": '),
    "a list": ("tokenizer.json", b"[]"),
    "deep": ("tokenizer.json", b'{"model":' * 5_000),
    "a model that is text": ("tokenizer.json", b'{"model": "BPE"}'),
    "merges that are text": ("tokenizer.json", b'{"model": {"merges": "a b"}}'),
    "merges that are an object": ("tokenizer.json", b'{"model": {"merges": {"a": "b"}}}'),
    "a merge that is a number": ("tokenizer.json", b'{"model": {"merges": ["a b", 3]}}'),
    "a vocabulary that is a list": ("vocab.json", b'["a"]'),
    "a vocabulary of another encoding": ("vocab.txt", b"\xe9\n"),
    "added tokens that are a list": ("added_tokens.json", b"[1]"),
}


@pytest.mark.parametrize(("name", "content"), TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_a_tokenizer_of_another_form_is_refused_by_its_directory(models, tmp_path, name, content):
    (models[1] / name).write_bytes(content)
    with pytest.raises(Refusal, match="target"):
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given", [3, {"AutoModel": 3}, {"AutoModel": ["modeling.Own", {}]}, {"AutoModel": "../own.Own"}]
)
def test_code_named_in_another_form_is_refused(models, tmp_path, given):
    configure(models[0], auto_map=given)
    with pytest.raises(Refusal, match=r"auto_map .*expected module\.Class"):
        merge(pivot=models[0], targets=[models[1]], rule=HALF, out=tmp_path / "out")
