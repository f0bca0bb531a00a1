"""What a merge works on: the pivot's parameters and where each target keeps them, checked before a weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fusion.merge.checkpoints import checkpoint_files, roles, same_kind
from fusion.merge.checkpoints.shards import FLOATS, Shards, StoredTensor, open_shards, read_bytes
from fusion.merge.parameter import Context
from fusion.runtime.configure import Refusal
from fusion.runtime.precision import TORCH_NAMES, spelled, widest

Embeddings = Literal["refuse", "cut"]
Tokenizer = Literal["equal", "pivot"]


@dataclass(frozen=True, kw_only=True)
class ParameterJob:
    """One floating parameter of the pivot and where each model keeps it.

    `layer`: its number in its stack of `layers`, which is the language model's or, where not `in_language`, a stack of
    its own such as a vision tower's; both None outside of all stacks.
    """

    name: str
    pivot: StoredTensor
    targets: tuple[StoredTensor, ...]
    layer: int | None
    layers: int | None
    in_language: bool
    random_name: str

    @property
    def context(self) -> Context:
        """What a rule may know of it before any weight is read."""
        return Context(name=self.name, layer=self.layer, layers=self.layers, in_language=self.in_language)

    @property
    def widest(self) -> str:
        """torch's name of the narrowest type that holds what every model has."""
        return widest(TORCH_NAMES[tensor.dtype] for tensor in (self.pivot, *self.targets))


@dataclass(frozen=True, kw_only=True)
class CheckedModels:
    """A pivot and its targets: what to merge, what goes over as it is, and whether the result's head is its own."""

    ours: Shards
    jobs: list[ParameterJob]
    copied: list[StoredTensor]
    untied: bool


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
    found = checked(pivot, targets, embeddings, tokenizer)
    return Examined(
        contexts=tuple(job.context for job in found.jobs),
        elements=sum(job.pivot.elements for job in found.jobs),
        files=len(found.ours.files),
        dtype=spelled(job.widest for job in found.jobs),
    )


def checked(pivot: Path, targets: Sequence[Path], embeddings: Embeddings, tokenizer: Tokenizer) -> CheckedModels:
    """Everything about the models that can be known without reading weights.

    Raises Refusal for models that are not of one structure, family and tokenizer, or are quantised.
    """
    for target in targets:
        same_kind.check_kind(pivot, target)
    if tokenizer == "equal":
        same_kind.check_tokenizers(pivot, targets)
    ours, theirs = open_shards(pivot), [open_shards(target) for target in targets]
    for shards in (ours, *theirs):
        same_kind.check_not_quantised(shards.directory, shards.tensors)
    whole = _with_own_head(ours, theirs)
    untied = whole is not ours
    tied = checkpoint_files.is_tied(checkpoint_files.read_config(pivot)) and not untied
    jobs, copied = _plan(whole, theirs, tied, embeddings)
    return CheckedModels(ours=whole, jobs=jobs, copied=copied, untied=untied)


def _with_own_head(ours: Shards, theirs: Sequence[Shards]) -> Shards:
    """The pivot with its input embeddings as the output head too, where it ties both and a target's head is its own."""
    heads = {
        name for shards in theirs for name, tensor in shards.tensors.items()
        if roles.is_head(name) and name not in ours.tensors and not _repeats_embeddings(tensor, shards)
    }  # fmt: skip
    tensors = dict(ours.tensors)
    for head in sorted(heads):
        embeddings = roles.tied_to(head, ours.tensors)
        if embeddings is not None:
            tensors[head] = replace(ours.tensors[embeddings], name=head)
    return ours if len(tensors) == len(ours.tensors) else replace(ours, tensors=tensors)


def _repeats_embeddings(tensor: StoredTensor, shards: Shards) -> bool:
    """Whether an output head that a checkpoint holds is its input embeddings once more."""
    tied = roles.tied_to(tensor.name, shards.tensors)
    return tied is not None and read_bytes(tensor) == read_bytes(shards.tensors[tied])


def _plan(
    ours: Shards, theirs: Sequence[Shards], tied: bool, embeddings: Embeddings
) -> tuple[list[ParameterJob], list[StoredTensor]]:
    """What to merge, in the pivot's order, and the tensors that are not floating and go over as they are."""
    jobs, copied = [], []
    depths: dict[str, int] = {}
    for name in ours.tensors:
        if (place := roles.layer_of(name)) is not None:
            depths[place[0]] = max(depths.get(place[0], 0), place[1] + 1)
    language = roles.language_stack(ours.tensors)
    for name, tensor in ours.tensors.items():
        if roles.is_buffer(name, tensor.shape):
            copied.append(tensor)
            continue
        found = tuple(_counterpart(tensor, shards, ours, embeddings) for shards in theirs)
        if tensor.dtype in FLOATS:
            stack, layer = roles.layer_of(name) or (None, None)
            shared = roles.tied_to(name, ours.tensors) if tied else None
            jobs.append(
                ParameterJob(
                    name=name,
                    pivot=tensor,
                    targets=found,
                    layer=layer,
                    layers=None if stack is None else depths[stack],
                    in_language=stack in (None, language),
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
        tied = roles.tied_to(tensor.name, shards.tensors)
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
    if roles.is_embedding(tensor.name) and found.shape[1:] == tensor.shape[1:]:
        if embeddings == "cut":
            rows = min(found.shape[0], tensor.shape[0])
            size = found.size // max(found.shape[0], 1) * rows
            return replace(found, shape=tensor.shape, size=size, further=tensor)
        changed = "enlarged" if found.shape[0] > tensor.shape[0] else "cut"
        raise Refusal(
            f"{shapes}: its vocabulary was {changed}. embeddings: cut merges the rows that both have and keeps the"
            " pivot's where only it has them; or resize it first"
        )
    raise Refusal(f"{shapes}: only models of one structure can be merged")


def _refuse_extra(ours: Shards, shards: Shards) -> None:
    extra = []
    for name, tensor in shards.tensors.items():
        if name in ours.tensors or roles.is_buffer(name, tensor.shape) or _repeats_embeddings(tensor, shards):
            continue
        extra.append(name)
    if extra:
        more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
        raise Refusal(
            f"{shards.directory} has parameters that the pivot {ours.directory} lacks: {', '.join(extra[:3])}{more}."
            " Their training would be lost: give a pivot of the same structure"
        )
