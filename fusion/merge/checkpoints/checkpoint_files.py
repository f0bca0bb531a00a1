"""What belongs to a checkpoint beside its weights: is it of the same kind as the pivot's, and what goes along."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.runtime.configure import Refusal

_COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_NOT_COPIED = frozenset({"model.safetensors.index.json", "manifest.json", "trainer_state.json", "index.json"})
# Where a tied output head's values are found.
_HEADS = {
    "lm_head.weight": ("model.embed_tokens.weight", "transformer.wte.weight"),
    "embed_out.weight": ("gpt_neox.embed_in.weight",),
}
_EMBEDDINGS = frozenset(_HEADS) | {name for names in _HEADS.values() for name in names}
# Settings that change what equal weights compute.
_STRUCTURE = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "rotary_pct",
    "rms_norm_eps",
    "sliding_window",
)


def read_config(directory: Path) -> Mapping[str, object]:
    """config.json of a checkpoint, empty where there is none; raises Refusal when it is not JSON."""
    return _read_json(directory / "config.json")


def is_embedding(name: str) -> bool:
    """Whether a parameter has one row for each vocabulary id: the input embeddings or the output head."""
    return name in _EMBEDDINGS


def tied_to(head: str, names: Collection[str]) -> str | None:
    """The input embeddings that the output head `head` shares when it is tied; None when `head` is no output head."""
    return next((name for name in _HEADS.get(head, ()) if name in names), None)


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether the config says that the output head is the input embeddings."""
    return bool(config.get("tie_word_embeddings", False))


def check_kind(pivot: Path, target: Path) -> None:
    """Refuse a target of another model family; note settings that make equal weights compute something else."""
    ours, theirs = read_config(pivot), read_config(target)
    if not ours or not theirs:
        return
    if ours.get("model_type") != theirs.get("model_type"):
        raise Refusal(
            f"{target} is a {theirs.get('model_type')} model and the pivot {pivot} a {ours.get('model_type')}: only"
            " models of one structure can be merged; fuse across structures with python -m fusion"
        )
    for key in _STRUCTURE:
        if key in ours and key in theirs and ours[key] != theirs[key]:
            warnings.warn(
                f"{key} is {theirs[key]} in {target} and {ours[key]} in the pivot: the merged model has the pivot's",
                stacklevel=2,
            )


def check_tokenizers(pivot: Path, targets: Sequence[Path]) -> None:
    """Refuse targets whose tokenizer assigns other ids than the pivot's, where both bring tokenizer files."""
    ours = _tokenizer(pivot)
    for target in targets:
        theirs = _tokenizer(target)
        for part in ours.keys() & theirs.keys():
            if ours[part] != theirs[part]:
                raise Refusal(
                    f"the tokenizers of {target} and the pivot {pivot} differ in {part}: their embedding rows mean"
                    " different tokens. Merge targets trained from this pivot, or set tokenizer: pivot if you know that"
                    " the ids agree"
                )


def copy_files(pivot: Path, out: Path, *, dtype: str) -> list[str]:
    """Copy config, generation config, tokenizer and chat template; returns their names.

    `dtype`, torch's name, is what most of the weights were written in: the config says so.
    """
    names = sorted({path.name for pattern in _COPIED for path in pivot.glob(pattern) if path.is_file()} - _NOT_COPIED)
    for name in names:
        shutil.copyfile(pivot / name, out / name)
        (out / name).chmod(0o644)
    if "config.json" in names:
        config = dict(read_config(pivot))
        key = "dtype" if "dtype" in config else "torch_dtype"
        if config.get(key) != dtype:
            config[key] = dtype
            (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return names


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise Refusal(f"{path} holds a {type(found).__name__}: expected a JSON object")
    return found


def _tokenizer(directory: Path) -> dict[str, object]:
    """The parts of a tokenizer that decide ids; truncation and padding do not."""
    fast = _read_json(directory / "tokenizer.json")
    if fast:
        model = fast.get("model") or {}
        parts = {key: fast.get(key) for key in ("added_tokens", "normalizer", "pre_tokenizer", "decoder")}
        return {"its vocabulary": model.get("vocab"), "its merges": _merges(model.get("merges")), **parts}
    slow = directory / "tokenizer.model"
    return {"tokenizer.model": slow.read_bytes()} if slow.exists() else {}


def _merges(merges: Sequence[str | Sequence[str]] | None) -> list[list[str]]:
    """Merges are written as "a b" by older versions of tokenizers and as [a, b] by newer ones."""
    return [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in merges or ()]
