"""Files that a checkpoint may come with or without: read as what they are, or refused before a weight is."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.merge import MERGE_RULES
from fusion.merge.checkpoints.checkpoint_stream import merge
from fusion.merge.checkpoints.shards import open_shards
from fusion.runtime.configure import Refusal

NAMES = [
    "model.embed_tokens.weight",
    "lm_head.weight",
    *(f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)),
]
HALF = MERGE_RULES["task_arithmetic"](weight=0.5)


@pytest.fixture
def held() -> dict[str, dict[str, torch.Tensor]]:
    """What the pivot and the target hold."""
    random = torch.Generator().manual_seed(0)
    return {model: {name: torch.randn(6, 4, generator=random) for name in NAMES} for model in ("pivot", "target")}


@pytest.fixture
def folder(tmp_path: Path, held: dict[str, dict[str, torch.Tensor]]) -> Path:
    for model, tensors in held.items():
        written(tmp_path / model, tensors)
    return tmp_path


def written(place: Path, tensors: dict[str, torch.Tensor], **config: object) -> None:
    place.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place / "model.safetensors")
    known = {"model_type": "llama", "tie_word_embeddings": False, "num_attention_heads": 2, "vocab_size": 6}
    (place / "config.json").write_text(json.dumps(known | config))


def merged(folder: Path, **settings: object) -> dict[str, torch.Tensor]:
    merge(pivot=folder / "pivot", targets=[folder / "target"], rule=HALF, out=folder / "out", **settings)
    return {name: t for file in (folder / "out").glob("*.safetensors") for name, t in load_file(file).items()}


def assert_middle(found: dict[str, torch.Tensor], held: dict[str, dict[str, torch.Tensor]]) -> None:
    assert found.keys() == held["pivot"].keys()
    for name, tensor in held["pivot"].items():
        torch.testing.assert_close(found[name], (tensor + held["target"][name]) / 2)


def split(place: Path, parts: int) -> dict[str, str]:
    """Its file as numbered ones with an index, whose weight_map is returned."""
    tensors = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    places = {}
    for part in range(parts):
        own = dict(list(tensors.items())[part::parts])
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        save_file(own, place / file)
        places |= dict.fromkeys(own, file)
    index(place, places)
    return places


def index(place: Path, places: dict[str, str]) -> None:
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("model", ["pivot", "target"])
@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "module.module.", "module._orig_mod."])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_wrappers_put_before_names_is_left_out(folder, held, model, before, parts):
    written(folder / model, {before + name: tensor for name, tensor in held[model].items()})
    if parts > 1:
        split(folder / model, parts)
    assert_middle(merged(folder), held)


@pytest.mark.parametrize("inside", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_what_wrappers_put_into_names_is_left_out(folder, held, inside):
    renamed = {name.replace("self_attn.", f"{inside}self_attn."): tensor for name, tensor in held["target"].items()}
    written(folder / "target", renamed)
    assert_middle(merged(folder), held)


def test_a_parameter_with_and_without_a_wrapper_is_there_twice(folder, held):
    written(folder / "target", held["target"] | {f"module.{NAMES[0]}": torch.ones(6, 4)})
    with pytest.raises(Refusal, match=f"'{NAMES[0]}' is twice in .*target"):
        merged(folder)


@pytest.mark.parametrize("shorter", ["pivot", "target"])
@pytest.mark.parametrize("beginning", ["model.", "transformer.", "base.model."])
def test_names_with_and_without_the_head_s_class_are_one_model(tmp_path, shorter, beginning):
    short = {f"layers.{i}.mlp.weight": torch.full((2, 2), float(i)) for i in range(3)} | {"norm.weight": torch.ones(2)}
    long = {f"{beginning}{name}": tensor + 2 for name, tensor in short.items()}
    models = {"pivot": short, "target": long} if shorter == "pivot" else {"pivot": long, "target": short}
    for model, tensors in models.items():
        written(tmp_path / model, tensors)
    found = merged(tmp_path)
    assert found.keys() == models["pivot"].keys()
    for name, tensor in short.items():
        torch.testing.assert_close(found[name if shorter == "pivot" else f"{beginning}{name}"], tensor + 1)


@pytest.mark.parametrize("beside", ["an index", "no index"])
def test_a_whole_file_beside_numbered_ones_is_refused(folder, beside):
    whole = (folder / "target/model.safetensors").read_bytes()
    split(folder / "target", 2)
    (folder / "target/model.safetensors").write_bytes(whole)
    if beside == "no index":
        (folder / "target/model.safetensors.index.json").unlink()
    with pytest.raises(Refusal, match="programs disagree on which of them is the model: delete the one"):
        merged(folder)


@pytest.mark.parametrize("model", ["pivot", "target"])
def test_an_index_of_some_of_its_shards_is_not_a_model(folder, model):
    places = split(folder / model, 3)
    index(folder / model, {name: file for name, file in places.items() if "00002-of" not in file})
    with pytest.raises(Refusal, match=f"{model} is not complete.*those that its index lists.*copy the missing"):
        merged(folder)


def test_an_index_with_an_entry_of_another_save_says_how_to_go_on(folder):
    index(folder / "target", split(folder / "target", 2) | {"model.old.weight": "model-00001-of-00002.safetensors"})
    with pytest.raises(Refusal, match=r"places 'model\.old\.weight' in .*which does not hold it: .*or delete"):
        merged(folder)


def test_shards_of_another_save_that_no_index_lists_are_not_read(folder, held):
    split(folder / "target", 2)
    save_file({NAMES[0]: torch.zeros(6, 4)}, folder / "target/model-00003-of-00003.safetensors")
    assert_middle(merged(folder), held)


def test_indexes_of_other_formats_and_an_adapters_files_stay_behind(folder, held):
    left = ["pytorch_model.bin.index.json", "tf_model.h5.index.json", "params.json", "adapter_config.json"]
    for name in (*left, "generation_config.json", "special_tokens_map.json"):
        (folder / "pivot" / name).write_text("{}")
    with pytest.warns(UserWarning, match="holds an adapter beside its weights"):
        assert_middle(merged(folder), held)
    found = {path.name for path in (folder / "out").glob("*.json")}
    assert found == {"config.json", "generation_config.json", "special_tokens_map.json"}


def test_a_pointer_of_git_lfs_is_called_so(folder):
    (folder / "target/model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(Refusal, match="pointer of git lfs.*git lfs pull"):
        merged(folder)


def test_what_is_no_file_is_not_waited_for(folder):
    (folder / "target/model.safetensors").unlink()
    os.mkfifo(folder / "target/model.safetensors")
    with pytest.raises(Refusal, match="it is no file"):
        merged(folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("model.Q4_K_M.gguf", r"has model\.Q4_K_M\.gguf.*safetensors that it was converted from"),
        ("pytorch_model.bin", r"pickled weights only \(pytorch_model\.bin\)"),
        ("checkpoint-500/model.safetensors", "did you mean .*target/checkpoint-500"),
        ("snapshots/0123abc/model.safetensors", "did you mean .*target/snapshots/0123abc"),
    ],
)
def test_a_folder_without_weights_says_what_it_has(folder, file, said):
    place = folder / "target" / file
    place.parent.mkdir(parents=True, exist_ok=True)
    (folder / "target/model.safetensors").rename(place)
    with pytest.raises(Refusal, match=said):
        merged(folder)


def header(entries: object, data: int = 8) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def entry(shape: object = (2,), offsets: object = (0, 8), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the length of a header"),
        (header([]), "its header is no object"),
        (header({"x": 1}), "dtype of 'x' is None: expected a text"),
        (header({"__metadata__": 3}), "__metadata__ is no object of texts"),
        (header({"x": entry(offsets=(0, 8.0))}), "expected where it begins and ends"),
        (header({"x": entry(shape=(-2,))}), "expected a list of sizes"),
        (header({"x": entry(shape=(True, 2))}), "expected a list of sizes"),
        (header({"x": entry(dtype="I64", shape=(4,))}), "does not fit I64 of shape"),
        (header({"x": entry(dtype="F4", shape=(15,))}), "does not fit F4"),
        (header({"x": entry(dtype="F33")}), "a type that is not known"),
        (header({"x": entry(), "y": entry(offsets=(4, 12))}, 12), "'y' shares bytes with the tensor before it"),
        (header({"x": entry(), "y": entry(offsets=(12, 20))}, 20), "'y' leaves bytes unused"),
        (header({"x": entry()}, 11), "where its header promises"),
        (header({"x": entry()}, 7), "cut short"),
        (header(b'{"x": %s, "x": %s}' % ((json.dumps(entry()).encode(),) * 2)), "gives 'x' twice"),
        (header(b"[" * 5000), "nested too deeply"),
    ],
)
def test_a_file_that_safetensors_would_not_read_is_refused(tmp_path, content, said):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Refusal, match=f"not readable as safetensors: .*{said}"):
        open_shards(tmp_path)


def test_tensors_without_entries_and_without_axes_are_taken(folder, held):
    for number, model in enumerate(held):
        held[model] |= {"model.none": torch.ones(0, 4), "model.scale": torch.tensor(float(number))}
        written(folder / model, held[model])
    assert_middle(merged(folder), held)


@pytest.mark.parametrize("rule", ["linear", "slerp", "ties", "dare", "varm", "sce"])
def test_every_rule_takes_tensors_without_entries(folder, held, rule):
    for model in held:
        written(folder / model, held[model] | {"model.none": torch.ones(0, 4)})
    merge(pivot=folder / "pivot", targets=[folder / "target"], rule=MERGE_RULES[rule](), out=folder / "out")
    assert load_file(folder / "out/model.safetensors")["model.none"].shape == (0, 4)


@pytest.mark.parametrize(
    ("config", "file", "named"),
    [
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, None, "by compressed-tensors"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, None, "by fp8"),
        ({"compression_config": {"quant_method": "sparseml"}}, None, "by sparseml"),
        ({"quantization": {"group_size": 64, "bits": 4}}, None, "its config"),
        ({}, "quant_config.json", "its config or a file beside it"),
        ({}, "hf_quant_config.json", "its config or a file beside it"),
    ],
)
@pytest.mark.parametrize("model", ["pivot", "target"])
def test_whatever_quantised_a_model_it_is_called_quantised(folder, held, model, config, file, named):
    written(folder / model, held[model], **config)
    if file:
        (folder / model / file).write_text('{"w_bit": 4}')
    with pytest.raises(Refusal, match=rf"{model} is quantised \({named}"):
        merged(folder)


def test_numbers_that_have_no_mean_and_differ_are_named(folder, held):
    for number, model in enumerate(held):
        written(folder / model, held[model] | {"model.norm.num_batches_tracked": torch.tensor(number)})
    with pytest.raises(Refusal, match="num_batches_tracked' is I64, which has no mean, and differs"):
        merged(folder)


@pytest.mark.parametrize(
    "buffers",
    [
        {"model.rotary_emb_local.inv_freq": torch.ones(2)},
        {"model.rotary_emb.original_inv_freq": torch.ones(2)},
        {"model.layers.0.attn.causal_mask": torch.ones(1, 1, 4, 4, dtype=torch.bool)},
        {"bert.embeddings.token_type_ids": torch.zeros(1, 4, dtype=torch.int64)},
    ],
)
@pytest.mark.parametrize("model", ["pivot", "target"])
def test_constants_that_some_releases_save_do_not_block_a_merge(folder, held, model, buffers):
    written(folder / model, held[model] | buffers)
    found = merged(folder)
    assert_middle({name: found[name] for name in NAMES}, held)
    assert (found.keys() == {*NAMES, *buffers}) == (model == "pivot")


@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads", "head_dim"])
def test_weights_that_are_cut_into_other_parts_are_refused(folder, held, key):
    written(folder / "pivot", held["pivot"], **{key: 2})
    written(folder / "target", held["target"], **{key: 4})
    with pytest.raises(Refusal, match=f"^{key} is 4 in .*target and 2 in the pivot .*cut into other parts"):
        merged(folder)


@pytest.mark.parametrize(
    ("ours", "theirs", "named"),
    [
        ({"rope_scaling": None}, {"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling.factor"),
        ({}, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_scaling.rope_type"),
        ({"rope_theta": 1e6}, {}, "rope_theta"),
        ({}, {"sliding_window": 4096}, "sliding_window"),
        ({"final_logit_softcapping": 30.0}, {}, "final_logit_softcapping"),
    ],
)
def test_what_one_config_alone_sets_is_named(folder, held, ours, theirs, named):
    written(folder / "pivot", held["pivot"], **ours)
    written(folder / "target", held["target"], **theirs)
    with pytest.warns(UserWarning) as told:
        merged(folder)
    assert any(str(warning.message).startswith(f"{named} is ") for warning in told)
    assert any("not set" in str(warning.message) for warning in told)


def test_what_is_off_in_one_config_and_not_in_the_other_is_not_worth_a_word(folder, held, recwarn):
    written(folder / "pivot", held["pivot"], rope_scaling=None, sliding_window=None, rope_theta=1e4, logit_scale=1.0)
    written(folder / "target", held["target"], rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    assert_middle(merged(folder), held)
    assert not recwarn.list
