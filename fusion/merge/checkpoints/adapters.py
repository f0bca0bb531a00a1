"""A LoRA adapter and its base as one checkpoint: an adapted weight W becomes W + scale * B A (arXiv 2106.09685, eq. 3).

The scale is lora_alpha / r, or with rank-stabilised LoRA lora_alpha / sqrt(r) (arXiv 2312.03732).  Adapted weights are
written in fp32, since an adapter's update is small beside 16-bit numbers; all others as they are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.merge.checkpoints.checkpoint_files import copy_files, noted_in
from fusion.merge.checkpoints.shards import open_shards
from fusion.runtime.configure import Refusal
from fusion.runtime.safetensors_files import INDEX, read_header

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_SUFFIX = re.compile(r"(?:\.default)?(?:\.weight)?$")


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    return (directory / CONFIG).exists() and not (directory / "config.json").exists()


def base_of(adapter: Path) -> str:
    """The model that an adapter says it was trained on: a path or a name on the hub, empty where it says nothing."""
    return str(noted_in(adapter / CONFIG).get("base_model_name_or_path") or "")


def write_adapted(base: Path, adapter: Path, out: Path) -> None:
    """Write `base` with `adapter` applied into the new directory `out`, one shard of the base at a time.

    Raises Refusal for adapters that are no LoRA, or change other things than weights by W + scale * B A.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    config = _lora_config(adapter)
    waiting = _by_module(load_file(_file(adapter)), adapter)
    shards = open_shards(base)
    out.mkdir(parents=True)
    for file, new in shards.written_as.items():
        with safe_open(base / file, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a mapping
        for name in tensors:
            parts = waiting.pop(name.removesuffix(".weight"), None)
            if parts is not None:
                tensors[name] = _adapted(name, tensors[name], parts, config, adapter)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / new, {"format": "pt"})
    if waiting:
        raise Refusal(
            f"{adapter} adapts {', '.join(sorted(waiting)[:3])}, which {base} does not have: expected the model that it"
            f" was trained on ({base_of(adapter) or 'not noted'})"
        )
    copy_files(base, out, dtype=str(dict(noted_in(base / "config.json")).get("dtype") or "float32"))
    if len(shards.files) > 1 or shards.index is not None:
        places = {tensor.name: shards.written_as[tensor.file.name] for tensor in shards.tensors.values()}
        (out / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}) + "\n")


def _lora_config(adapter: Path) -> Mapping[str, Any]:
    config = noted_in(adapter / CONFIG)
    kind = config.get("peft_type")
    merged = "merge it into its base with peft's merge_and_unload and give the model that this saves"
    if kind != "LORA":
        raise Refusal(f"{adapter} is a {kind} adapter: only LoRA adapters are read as they are; {merged}")
    for key in ("use_dora", "fan_in_fan_out", "alora_invocation_tokens", "lora_bias"):
        if config.get(key):
            raise Refusal(f"{adapter} has {key}, which is more than W + scale * B A: {merged}")
    if config.get("bias", "none") != "none":
        raise Refusal(f"{adapter} trained biases too (bias: {config['bias']}): {merged}")
    return config


def _file(adapter: Path) -> Path:
    if not (adapter / _WEIGHTS).exists():
        raise Refusal(f"{adapter} has no {_WEIGHTS}: expected an adapter as peft saves it, in safetensors")
    read_header(adapter / _WEIGHTS)
    return adapter / _WEIGHTS


def _by_module(tensors: Mapping[str, Tensor], adapter: Path) -> dict[str, dict[str, Tensor]]:
    """The parts of each adapted module, by the module's name in the base: A and B, or the whole new weight."""
    found: dict[str, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix("base_model.model.")
        module, lora, part = name.partition(".lora_")
        if lora:
            kind = _SUFFIX.sub("", part)
            if kind not in ("A", "B"):
                raise Refusal(
                    f"{adapter} holds {full}, which is more than W + scale * B A: merge it into its base with peft's"
                    " merge_and_unload and give the model that this saves"
                )
            found.setdefault(module, {})[kind] = tensor
        else:  # modules_to_save: trained whole
            module = _SUFFIX.sub("", name.replace(".modules_to_save", ""))
            found.setdefault(module, {})["whole"] = tensor
    return found


def _adapted(
    name: str, weight: Tensor, parts: Mapping[str, Tensor], config: Mapping[str, Any], adapter: Path
) -> Tensor:
    if "whole" in parts:
        update, shape = parts["whole"], weight.shape
        if update.shape != shape:
            raise Refusal(f"{adapter} has {name} of shape {list(update.shape)}, and its base {list(shape)}")
        return update
    if parts.keys() != {"A", "B"}:
        raise Refusal(f"{adapter} has only {' and '.join(parts)} of {name}: expected both A and B; copy it there again")
    rank = parts["A"].shape[0]
    scale = _patterned(config, "alpha_pattern", name, config.get("lora_alpha", 8))
    scale /= math.sqrt(rank) if config.get("use_rslora") else rank
    product = parts["B"].float() @ parts["A"].float()
    if product.shape != weight.shape:
        raise Refusal(
            f"{adapter} changes {name} by {list(product.shape)} numbers, and its base has {list(weight.shape)}:"
            " expected the model that it was trained on"
        )
    return weight.float() + scale * product


def _patterned(config: Mapping[str, Any], key: str, name: str, default: float) -> float:
    """A setting of a module: that of the first pattern which its name ends with, as peft matches them."""
    module = name.removesuffix(".weight")
    patterns = config.get(key) or {}
    try:
        for pattern, value in patterns.items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                return float(value)
        return float(default)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise Refusal(
            f"{CONFIG} has {key} {patterns!r} beside {default!r} ({error}): expected numbers by name"
        ) from error
