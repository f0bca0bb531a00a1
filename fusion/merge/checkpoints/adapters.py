"""A LoRA adapter and its base as one checkpoint: an adapted weight W becomes W + scale * B A (arXiv 2106.09685, eq. 3).

The scale is lora_alpha / r, or with rank-stabilised LoRA lora_alpha / sqrt(r) (arXiv 2312.03732).  What was trained
whole (modules_to_save, biases) takes its place.  Adapted weights are written in fp32, since an adapter's update is
small beside 16-bit numbers; all others as they are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.merge.checkpoints import roles
from fusion.merge.checkpoints.checkpoint_files import copy_files, is_tied, read_config, read_json
from fusion.merge.checkpoints.same_kind import check_not_quantised
from fusion.merge.checkpoints.shards import INDEX, open_shards, read_header
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
# Settings of peft's LoRA by which an adapter is more than W + scale * B A on the layers that its base has.
_MORE = (
    "use_dora",
    "use_qalora",
    "alora_invocation_tokens",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
# Initialisations that take what A and B begin with out of the base's weights; the others leave these as they are.
_CHANGING_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(?:\.\w+)?$")
_WRAPPED = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer|original_module)(?=\.)")
_MERGED = "merge it into its base with peft's merge_and_unload and give the model that this saves"


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    return (directory / CONFIG).exists() and not any(
        path.name != _WEIGHTS for pattern in ("*.safetensors", "pytorch_model*.bin") for path in directory.glob(pattern)
    )


def base_of(adapter: Path) -> str:
    """The model that an adapter says it was trained on: a path or a name on the hub, empty where it says nothing."""
    return str(read_json(adapter / CONFIG).get("base_model_name_or_path") or "")


def write_adapted(base: Path, adapter: Path, out: Path) -> None:
    """Write `base` with `adapter` applied into the new directory `out`, one shard of the base at a time.

    A tied base gets an output head of its own where the adapter has one.  Raises Refusal for adapters that are no LoRA,
    or change other things than weights by W + scale * B A, and for a base that is quantised.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    config = _lora_config(adapter)
    waiting = _by_parameter(adapter)
    shards = open_shards(base)
    check_not_quantised(base, shards.tensors)
    own_head = any(map(roles.is_head, waiting))
    if not own_head and not config.get("ensure_weight_tying"):
        _refuse_tied_embeddings(base, adapter, waiting, shards.tensors)
    beginnings = {name: roles.tied_to(name, shards.tensors) for name in waiting if name not in shards.tensors}
    places: dict[str, str] = {}
    out.mkdir(parents=True)
    for file, new in shards.written_as.items():
        with safe_open(base / file, framework="pt") as stream:
            tensors = {roles.unwrapped(name): stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  no dict
        tensors |= {head: tensors[name].clone() for head, name in beginnings.items() if name in tensors}
        for name in tensors:
            parts = waiting.pop(name, None)
            if parts is not None:
                tensors[name] = _adapted(name, tensors[name], parts, config, adapter)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / new, {"format": "pt"})
        places |= dict.fromkeys(tensors, new)
    if waiting:
        raise Refusal(
            f"{adapter} adapts {', '.join(sorted(waiting)[:3])}, which {base} does not have: expected the model that it"
            f" was trained on ({base_of(adapter) or 'not noted'}); or {_MERGED}"
        )
    copy_files(base, out, dtype=str(dict(read_config(base)).get("dtype") or "float32"), untied=own_head)
    if len(shards.files) > 1 or shards.index is not None:
        (out / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}) + "\n")


def _lora_config(adapter: Path) -> Mapping[str, Any]:
    config = read_json(adapter / CONFIG)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise Refusal(f"{adapter} is a {kind} adapter: only LoRA adapters are read as they are; {_MERGED}")
    for key in _MORE:
        if config.get(key):
            raise Refusal(f"{adapter} has {key}, which is more than W + scale * B A: {_MERGED}")
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.startswith(_CHANGING_THE_BASE):
        raise Refusal(
            f"{adapter} has init_lora_weights {begun}, which took A and B out of its base's weights, so it does not go"
            f" on the base as it is published: {_MERGED}"
        )
    return config


def _by_parameter(adapter: Path) -> dict[str, dict[str, Tensor]]:
    """What the adapter has for each parameter of its base: A and B, the new whole, or all three."""
    import torch
    from safetensors.torch import load_file

    file = adapter / _WEIGHTS
    if not file.exists():
        pickled = file.with_suffix(".bin")
        way = (
            f"{pickled.name} is pickled and can run code: load and save it again with peft, or "
            if pickled.exists()
            else ""
        )
        raise Refusal(
            f"{adapter} has no {_WEIGHTS}: expected an adapter as peft saves it, in safetensors; {way}{_MERGED}"
        )
    read_header(file)
    found: dict[str, dict[str, Tensor]] = {}
    for full, tensor in load_file(file).items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise Refusal(
                f"{full} of the adapter {adapter} has entries that are NaN or infinite: its training diverged or the"
                " file is damaged; give another one"
            )
        name = roles.unwrapped(full).removeprefix("base_model.model.")
        factor = _FACTOR.match(name.removesuffix(".weight"))
        if factor is not None and tensor.dim() == 2:
            kind = f"{factor['embedding'] or ''}{factor['factor']}"
            found.setdefault(f"{factor['module']}.weight", {})[kind] = tensor
        elif ".lora_" in name or ".token_adapter." in name:
            raise Refusal(f"{adapter} holds {full}, which is more than W + scale * B A: {_MERGED}")
        else:
            found.setdefault(_WRAPPED.sub("", name), {})["whole"] = tensor
    return found


def _refuse_tied_embeddings(base: Path, adapter: Path, changed: Collection[str], names: Collection[str]) -> None:
    """Refuse an adapter of input embeddings that are the output head too: its files do not say if the head follows."""
    embeddings = [name for name in changed if roles.is_input_embedding(name)]
    if embeddings and (is_tied(read_config(base)) or not any(map(roles.is_head, names))):
        raise Refusal(
            f"{adapter} trained {embeddings[0]}, which the tied base {base} has for its output head too, and does not"
            f" say whether the head follows: {_MERGED}"
        )


def _adapted(
    name: str, weight: Tensor, parts: Mapping[str, Tensor], config: Mapping[str, Any], adapter: Path
) -> Tensor:
    factors = dict(parts)
    whole = factors.pop("whole", weight)
    if whole.shape != weight.shape:
        raise Refusal(
            f"{adapter} has {name} of shape {list(whole.shape)}, and its base {list(weight.shape)}: resize the base's"
            f" vocabulary first, or {_MERGED}"
        )
    if not factors:
        return whole
    embedding = "embedding_A" in factors or "embedding_B" in factors
    first, second = ("embedding_A", "embedding_B") if embedding else ("A", "B")
    if factors.keys() != {first, second}:
        raise Refusal(f"{adapter} has only {' and '.join(factors)} of {name}: expected A and B; copy it there again")
    a, b = factors[first].float(), factors[second].float()
    rank = a.shape[0]
    if b.shape[1] != rank or rank == 0:
        raise Refusal(
            f"{adapter} has A of shape {list(a.shape)} and B of {list(b.shape)} for {name}: expected a LoRA's, of one"
            " rank; copy it there again"
        )
    scale = _alpha(config, name, adapter)
    scale /= math.sqrt(rank) if config.get("use_rslora") else rank
    product = b @ a
    if embedding or config.get("fan_in_fan_out"):  # weights that are kept the other way round
        product = product.T
    if product.shape != weight.shape:
        raise Refusal(
            f"{adapter} changes {name} by {list(product.shape)} numbers, and its base has {list(weight.shape)}:"
            f" expected the model that it was trained on ({base_of(adapter) or 'not noted'})"
        )
    return whole.float() + scale * product


def _alpha(config: Mapping[str, Any], name: str, adapter: Path) -> float:
    """lora_alpha of a module: that of the first pattern which its name ends with, as peft matches them."""
    module = name.removesuffix(".weight")
    patterns = config.get("alpha_pattern") or {}
    try:
        fitting = [value for pattern, value in patterns.items() if re.match(rf"(?:.*\.)?(?:{pattern})$", module)]
        alpha = float((fitting or [config.get("lora_alpha", 8)])[0])
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise Refusal(
            f"lora_alpha or alpha_pattern of {adapter / CONFIG} cannot be read: expected numbers ({error})"
        ) from error
    if not math.isfinite(alpha):
        raise Refusal(f"lora_alpha of {adapter / CONFIG} is {alpha} for {name}: expected a finite number")
    return alpha
