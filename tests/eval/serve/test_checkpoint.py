"""What may take a served checkpoint's place, and what keys its answers, is decided from files alone."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from eval.serve import machine
from eval.serve.checkpoint import differences, noted_dtype, shards, signature, weights_digest
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import stamp


def write(out: Path, *, scale: float = 1.0, config: dict | None = None) -> Path:
    out.mkdir(parents=True)
    tensors = {"a": np.full((2, 3), scale, dtype=np.float32), "b": np.arange(4, dtype=np.float16)}
    save_file(tensors, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 3} | (config or {})))
    (out / "tokenizer.json").write_text('{"model": 1}')
    (out / "chat_template.jinja").write_text("{{ messages }}")
    return out


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return write(tmp_path / "served")


def test_other_weights_under_the_same_headers_may_be_swapped_in(served, tmp_path):
    other = write(tmp_path / "other", scale=2.0, config={"_name_or_path": "elsewhere", "transformers_version": "9"})
    assert differences(signature(served), signature(other)) == []
    assert weights_digest(served) != weights_digest(other)


def test_a_copy_elsewhere_has_the_same_digest(served, tmp_path):
    shutil.copytree(served, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text(
        json.dumps({"hidden_size": 3, "model_type": "llama", "_name_or_path": "copy"})
    )
    assert weights_digest(served) == weights_digest(tmp_path / "copy")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"b": None}, "tensor b is missing"),
        ({"a": np.zeros((3, 2), np.float32)}, "tensor a: F32 [2, 3] is served, F32 [3, 2] comes"),
        ({"a": np.zeros((2, 3), np.float16)}, "tensor a: F32 [2, 3] is served, F16 [2, 3] comes"),
        ({"c": np.zeros(1)}, "tensor c is new"),
    ],
)
def test_a_tensor_that_is_missing_new_or_of_another_shape_or_type_is_named(served, tmp_path, tensors, message):
    other = write(tmp_path / "other")
    changed = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)} | tensors
    save_file({k: v for k, v in changed.items() if v is not None}, other / "model.safetensors")
    assert differences(signature(served), signature(other)) == [message]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("chat_template.jinja", "{{ other }}", "chat_template.jinja differs"),
        ("tokenizer.json", "{}", "tokenizer.json differs"),
        ("special_tokens_map.json", "{}", "special_tokens_map.json differs"),
        ("config.json", '{"model_type": "llama", "hidden_size": 4}', "config.json hidden_size: 3 is served, 4 comes"),
        ("generation_config.json", '{"eos_token_id": [1, 2]}', "generation_config.eos_token_id"),
    ],
)
def test_a_reload_changes_weights_only_so_any_other_file_must_agree(served, tmp_path, name, text, message):
    other = write(tmp_path / "other")
    (other / name).write_text(text)
    (found,) = differences(signature(served), signature(other))
    assert message in found
    assert weights_digest(served) != weights_digest(other)


def test_a_truncated_shard_is_refused_with_both_sizes(served):
    shard = served / "model.safetensors"
    size = shard.stat().st_size
    os.truncate(shard, size - 5)
    with pytest.raises(Refusal, match=f"has {size - 5} bytes where its header promises {size}"):
        signature(served)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64, (5).to_bytes(8, "little") + b"[1,2]"])
def test_a_file_that_is_no_safetensors_is_refused(served, content):
    (served / "model.safetensors").write_bytes(content)
    with pytest.raises(Refusal, match="not readable as safetensors"):
        signature(served)


def test_only_shards_that_the_index_names_count(served):
    save_file({"old": np.zeros(1)}, served / "left-over.safetensors")
    index = {"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
    (served / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in shards(served)] == ["model.safetensors"]
    index["weight_map"]["c"] = "model.safetensors"
    (served / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Refusal, match="names 1 tensors that no shard has, first c"):
        signature(served)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_directory_that_is_no_checkpoint_is_refused(served, missing):
    (served / missing).unlink()
    (served / "chat_template.jinja").unlink()
    with pytest.raises(Refusal, match="config.json|safetensors|tokenizer"):
        signature(served)


def test_hashes_noted_in_a_manifest_are_taken_until_the_file_changes(served):
    shard = served / "model.safetensors"
    stat = shard.stat()
    noted = {"bytes": stat.st_size, "sha256": "0" * 64}
    plain = weights_digest(served)
    (served / "manifest.json").write_text(json.dumps({"files": {"model.safetensors": noted}}))
    (served / ".seen.json").write_text(json.dumps({"model.safetensors": stamp(shard)}))
    assert weights_digest(served) != plain  # the false hash was believed
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_digest(served) == plain


@pytest.mark.parametrize("config", [{"num_attention_heads": "4", "hidden_size": [64]}, {"head_dim": "16"}, {}])
def test_settings_of_other_types_say_nothing_of_the_heads(served, config, monkeypatch):
    monkeypatch.setattr(machine, "on_cpu", lambda: True)
    machine.check_head_size(served, config)
    with pytest.raises(Refusal, match="heads of size 16"):
        machine.check_head_size(served, {**config, "num_attention_heads": 4, "hidden_size": 64, "head_dim": None})


def test_the_type_of_weights_is_the_widest_floating_one_and_weights_of_none_are_refused(served):
    assert noted_dtype(served) == "float32"  # beside float16
    save_file({"codes": np.zeros(3, dtype=np.int8)}, served / "model.safetensors")
    with pytest.raises(Refusal, match="no floating numbers, only I8"):
        noted_dtype(served)
