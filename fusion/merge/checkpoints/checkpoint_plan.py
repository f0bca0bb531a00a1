"""What a merge works on: the pivot's parameters and where each target keeps them, checked before a weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fusion.merge.checkpoints import checkpoint_files
from fusion.merge.checkpoints.shards import FLOATS, Shards, StoredTensor, open_shards, read_bytes
from fusion.merge.parameter import Context
from fusion.runtime.configure import Refusal
from fusion.runtime.precision import TORCH_NAMES, spelled, widest

_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")
Embeddings = Literal["refuse", "cut"]
Tokenizer = Literal["equal", "pivot"]


@dataclass(frozen=True, kw_only=True)
class ParameterJob:
    """One floating parameter of the pivot and where each model keeps it."""

    name: str
    pivot: StoredTensor
    targets: tuple[StoredTensor, ...]
    layer: int | None
    random_name: str

    @property
    def widest(self) -> str:
        """torch's name of the narrowest type that holds what every model has."""
        return widest(TORCH_NAMES[tensor.dtype] for tensor in (self.pivot, *self.targets))


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a merge would work on: parameters in the pivot's order, how many numbers they hold, in how many files.

    `dtype`: what they are written in where nothing else is asked for.
    """

    contexts: tuple[Context, ...]
    elements: int
    files: int
    dtype: str


def examine(
    pivot: Path, targets: Sequence[Path], *, embeddings: Embeddings = "refuse", tokenizer: Tokenizer = "equal"
) -> Examined:
    """Check names, shapes and tokenizers as `merge` does, reading no weights."""
    ours, jobs, _ = checked(pivot, targets, embeddings, tokenizer)
    layers = count_layers(jobs)
    return Examined(
        contexts=tuple(Context(name=job.name, layer=job.layer, layers=layers) for job in jobs),
        elements=sum(job.pivot.elements for job in jobs),
        files=len(ours.files),
        dtype=spelled(job.widest for job in jobs),
    )


def checked(
    pivot: Path, targets: Sequence[Path], embeddings: Embeddings, tokenizer: Tokenizer
) -> tuple[Shards, list[ParameterJob], list[StoredTensor]]:
    """The pivot's files, what to merge, and what goes over as it is.

    Raises Refusal for models that are not of one structure, family and tokenizer.
    """
    for target in targets:
        checkpoint_files.check_kind(pivot, target)
    if tokenizer == "equal":
        checkpoint_files.check_tokenizers(pivot, targets)
    ours = open_shards(pivot)
    jobs, copied = _plan(
        ours, [open_shards(target) for target in targets], checkpoint_files.read_config(pivot), embeddings
    )
    return ours, jobs, copied


def count_layers(jobs: Sequence[ParameterJob]) -> int | None:
    """How many layers the names count, None where they count none."""
    return max((job.layer for job in jobs if job.layer is not None), default=-1) + 1 or None


def _plan(
    ours: Shards, theirs: Sequence[Shards], config: Mapping[str, object], embeddings: Embeddings
) -> tuple[list[ParameterJob], list[StoredTensor]]:
    """What to merge, in the pivot's order, and the tensors that are not floating and go over as they are."""
    jobs, copied = [], []
    for name, tensor in ours.tensors.items():
        found = tuple(_counterpart(tensor, shards, ours, embeddings) for shards in theirs)
        if tensor.dtype in FLOATS:
            layer = _LAYER.search(f".{name}")
            shared = checkpoint_files.tied_to(name, ours.tensors) if checkpoint_files.is_tied(config) else None
            jobs.append(
                ParameterJob(
                    name=name,
                    pivot=tensor,
                    targets=found,
                    layer=int(layer.group(1)) if layer else None,
                    random_name=shared or name,
                )
            )
            continue
        for shards, other in zip(theirs, found, strict=True):
            if other.dtype != tensor.dtype or read_bytes(other) != read_bytes(tensor):
                raise Refusal(
                    f"parameter '{name}' is {tensor.dtype}, which has no mean, and differs between the pivot"
                    f" {ours.directory} and {shards.directory}: quantised models cannot be merged, merge their"
                    " originals"
                )
        copied.append(tensor)
    for shards in theirs:
        _refuse_extra(ours, shards)
    return jobs, copied


def _counterpart(tensor: StoredTensor, shards: Shards, ours: Shards, embeddings: Embeddings) -> StoredTensor:
    """The same parameter in a target: under its name, or for a tied output head under the input embeddings' name."""
    found = shards.tensors.get(tensor.name)
    if found is None:
        tied = checkpoint_files.tied_to(tensor.name, shards.tensors)
        if tied is None or checkpoint_files.read_config(shards.directory).get("tie_word_embeddings") is False:
            raise Refusal(
                f"parameter '{tensor.name}' of the pivot {ours.directory} is missing in {shards.directory}: expected a"
                " target trained from this pivot, with all its parameters"
            )
        found = shards.tensors[tied]
    if found.dtype not in FLOATS and tensor.dtype in FLOATS:
        raise Refusal(
            f"parameter '{tensor.name}' is {found.dtype} in {shards.directory}: expected one of"
            f" {', '.join(sorted(FLOATS))}; quantised models cannot be merged, merge their originals"
        )
    if found.shape == tensor.shape:
        return found
    shapes = (
        f"parameter '{tensor.name}' has shape {list(found.shape)} in {shards.directory} and {list(tensor.shape)} in the"
        f" pivot {ours.directory}"
    )
    resized = checkpoint_files.is_embedding(tensor.name) and found.shape[1:] == tensor.shape[1:]
    if resized and found.shape[0] > tensor.shape[0]:
        if embeddings == "cut":
            row = found.size // found.shape[0]
            return replace(found, shape=tensor.shape, size=row * tensor.shape[0])
        raise Refusal(
            f"{shapes}: its vocabulary was enlarged. embeddings: cut merges the rows both have, or resize it first"
        )
    raise Refusal(f"{shapes}: only models of one structure can be merged")


def _refuse_extra(ours: Shards, shards: Shards) -> None:
    extra = []
    for name, tensor in shards.tensors.items():
        if name in ours.tensors or name.endswith("rotary_emb.inv_freq"):
            continue
        tied = checkpoint_files.tied_to(name, shards.tensors)
        if tied is None or read_bytes(tensor) != read_bytes(shards.tensors[tied]):
            extra.append(name)
    if extra:
        more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
        raise Refusal(
            f"{shards.directory} has parameters that the pivot {ours.directory} lacks: {', '.join(extra[:3])}{more}."
            " Their training would be lost: give a pivot of the same structure"
        )
