"""What a checkpoint directory says about itself without loading it: its digest, and what must match for a reload.

Only safetensors headers, JSON and tokenizer files are read; weights are hashed, never deserialised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.runtime.artifacts import noted_digest
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import file_digest
from fusion.runtime.precision import TORCH_NAMES, widest
from fusion.runtime.reading import read_object
from fusion.runtime.safetensors_files import read_header, read_index

# They say where a config came from, not what the model computes.
_PROVENANCE = frozenset({"_name_or_path", "name_or_path", "transformers_version", "_commit_hash"})
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """All that a running server keeps when only weights are swapped: two checkpoints must agree in it to be swapped."""

    config: Mapping[str, object]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]  # name -> dtype, shape
    tokenizer: Mapping[str, str]  # file -> digest, chat template included


def signature(checkpoint: Path) -> Signature:
    """The signature of a Hugging Face checkpoint directory.

    Raises Refusal when the directory, its config, its weights or its tokenizer are missing, or a shard is damaged.
    """
    config = _config(checkpoint)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for shard in shards(checkpoint):
        for entry in read_header(shard).tensors:
            if entry.name in tensors:
                raise Refusal(f"{checkpoint}: tensor {entry.name} is in two shards: write the checkpoint again")
            tensors[entry.name] = (entry.dtype, entry.shape)
    _check_index(checkpoint, tensors)
    tokenizer = {path.name: _tokenizer_digest(path) for path in _tokenizer_paths(checkpoint)}
    if not tokenizer:
        raise Refusal(
            f"{checkpoint} has no tokenizer files: a server needs the checkpoint's own tokenizer beside its weights"
        )
    return Signature(config=config, tensors=tensors, tokenizer=tokenizer)


def differences(served: Signature, wanted: Signature) -> list[str]:
    """Why `wanted` cannot take the place of `served` in a running server; empty when it can."""
    found = []
    for key in sorted({*served.config, *wanted.config}):
        if served.config.get(key) != wanted.config.get(key):
            found.append(f"config.json {key}: {served.config.get(key)!r} is served, {wanted.config.get(key)!r} comes")
    for name in served.tensors:
        if name not in wanted.tensors:
            found.append(f"tensor {name} is missing")
        elif served.tensors[name] != wanted.tensors[name]:
            found.append(
                f"tensor {name}: {_spell(served.tensors[name])} is served, {_spell(wanted.tensors[name])} comes"
            )
    found += [f"tensor {name} is new" for name in wanted.tensors if name not in served.tensors]
    for name in sorted({*served.tokenizer, *wanted.tokenizer}):
        if served.tokenizer.get(name) != wanted.tokenizer.get(name):
            found.append(f"{name} differs")
    return found


def noted_dtype(checkpoint: Path) -> str:
    """torch's name of the type that a checkpoint's config gives its weights, or where it gives none, of the widest
    that its files hold.  Raises Refusal when config or weights are missing, and for weights that are no numbers.
    """
    config = _config(checkpoint)
    noted = config.get("dtype") or config.get("torch_dtype")
    if noted:
        return str(noted).removeprefix("torch.")
    codes = {entry.dtype for shard in shards(checkpoint) for entry in read_header(shard).tensors}
    if not codes & TORCH_NAMES.keys():
        raise Refusal(f"{checkpoint} holds no floating numbers, only {', '.join(sorted(codes)) or 'nothing'}")
    return widest(TORCH_NAMES[code] for code in codes & TORCH_NAMES.keys())


def weights_digest(checkpoint: Path) -> str:
    """A sha256, in hexadecimal, of all that decides a checkpoint's answers: weights, config, tokenizer, chat template.

    Where the checkpoint lies in an artifact, a large file's hash is taken from the manifest as long as the file is as
    it was when it was hashed; otherwise the file is read.  Raises Refusal when config or weights are missing.
    """
    parts = [("config.json", hashlib.sha256(_canonical(_config(checkpoint))).hexdigest())]
    parts += [(path.name, noted_digest(path) or file_digest(path)) for path in shards(checkpoint)]
    parts += [(path.name, _tokenizer_digest(path)) for path in _tokenizer_paths(checkpoint)]
    return hashlib.sha256(_canonical(parts)).hexdigest()


def shards(checkpoint: Path) -> list[Path]:
    """The safetensors files that hold the weights: those the index names, or all of them where there is no index.

    Raises Refusal when there are none, or a named one is missing.
    """
    index = read_index(checkpoint)
    if index is not None:
        found = [checkpoint / name for name in sorted(set(index["weight_map"].values()))]
    else:
        found = sorted(checkpoint.glob("*.safetensors"))
    for path in found:
        if not path.is_file():
            raise Refusal(f"{path} is named by the index but missing: copy or write the checkpoint again")
    if not found:
        raise Refusal(f"{checkpoint} holds no .safetensors weights: only that format is read; convert others first")
    return found


def _config(checkpoint: Path) -> dict[str, object]:
    """config.json without its provenance, and the end tokens that servers take from generation_config.json."""
    found = _without_provenance(read_object(checkpoint / "config.json", expected="that of a Hugging Face checkpoint"))
    generation = checkpoint / "generation_config.json"
    if generation.is_file():
        noted = read_object(generation, expected="a generation config")
        found["generation_config.eos_token_id"] = noted.get("eos_token_id")
    return found


def _check_index(checkpoint: Path, tensors: Mapping[str, object]) -> None:
    index = read_index(checkpoint)
    if index is None:
        return
    missing = [name for name in index["weight_map"] if name not in tensors]
    if missing:
        raise Refusal(f"{checkpoint}: the index names {len(missing)} tensors that no shard has, first {missing[0]}")


def _tokenizer_paths(checkpoint: Path) -> Iterator[Path]:
    yield from (path for name in _TOKENIZER_FILES if (path := checkpoint / name).is_file())


def _tokenizer_digest(path: Path) -> str:
    if path.name == "tokenizer_config.json":
        config = read_object(path, expected="a tokenizer config")
        return hashlib.sha256(_canonical(_without_provenance(config))).hexdigest()
    return file_digest(path)


def _without_provenance(value: Mapping[str, object]) -> dict[str, object]:
    return {key: item for key, item in value.items() if key not in _PROVENANCE}


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _spell(entry: tuple[str, tuple[int, ...]]) -> str:
    return f"{entry[0]} {list(entry[1])}"
