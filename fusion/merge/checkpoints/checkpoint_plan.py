"""What a merge works on: the pivot's parameters and where each target keeps them, checked before a weight is read."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
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
        after = self.layer is None and not roles.is_input(self.name)
        return Context(name=self.name, layer=self.layer, layers=self.layers, in_language=self.in_language, after=after)

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
        same_kind.note_adapter_beside(shards.directory)
    theirs = [_named_as(ours, shards) for shards in theirs]
    whole = _with_own_head(ours, theirs)
    tied = checkpoint_files.is_tied(checkpoint_files.read_config(pivot))
    apart = [shards for shards in (ours, *theirs) if tied and whole is ours and _own_heads(shards)]
    untied = whole is not ours or bool(apart)
    for shards in apart:
        if checkpoint_files.is_tied(checkpoint_files.read_config(shards.directory)):
            warnings.warn(
                f"the config of {shards.directory} says that its input embeddings are its output head too, and it holds"
                " another head: that is merged, and the merged model has a head of its own",
                stacklevel=2,
            )
    jobs, copied = _plan(whole, theirs, tied and not untied, embeddings)
    return CheckedModels(ours=whole, jobs=jobs, copied=copied, untied=untied)


def _named_as(ours: Shards, shards: Shards) -> Shards:
    """A target under the pivot's names, where all names of one of them begin with something more, such as `model.`.

    Models are saved with and without their head's class around them; the head itself is under one name in both.
    """
    mine, its = ({name for name in held.tensors if not roles.is_head(name)} for held in (ours, shards))
    for longer, shorter in ((mine, its), (its, mine)):
        for prefix in () if mine & its else _beginnings(longer):
            if {name.removeprefix(prefix) for name in longer} & shorter:
                renamed = {}
                for name, tensor in shards.tensors.items():
                    other = f"{prefix}{name}" if longer is mine else name.removeprefix(prefix)
                    new = name if roles.is_head(name) else other
                    renamed[new] = replace(tensor, name=new)
                return replace(shards, tensors=renamed)
    return shards


def _beginnings(names: Collection[str]) -> Iterator[str]:
    """What all of these names begin with, `a.` and `a.b.`."""
    common = ""
    for one, other in zip(min(names, default="").split("."), max(names, default="").split("."), strict=False):
        if one != other:
            return
        common += f"{one}."
        yield common


def _with_own_head(ours: Shards, theirs: Sequence[Shards]) -> Shards:
    """The pivot with its input embeddings as the output head too, where it ties both and a target's head is its own."""
    tensors = dict(ours.tensors)
    for head in sorted({head for shards in theirs for head in _own_heads(shards, but=ours.tensors)}):
        embeddings = roles.tied_to(head, ours.tensors)
        if embeddings is not None:
            tensors[head] = replace(ours.tensors[embeddings], name=head)
    return ours if len(tensors) == len(ours.tensors) else replace(ours, tensors=tensors)


def _own_heads(shards: Shards, *, but: Collection[str] = ()) -> list[str]:
    """The output heads that a checkpoint holds and that are not its input embeddings once more; not those of `but`."""
    heads = [tensor for name, tensor in shards.tensors.items() if roles.is_head(name) and name not in but]
    return [head.name for head in heads if not _repeats_embeddings(head, shards)]


def _repeats_embeddings(tensor: StoredTensor, shards: Shards) -> bool:
    """Whether an output head that a checkpoint holds is its input embeddings once more."""
    tied = roles.tied_to(tensor.name, shards.tensors)
    if tied is None or shards.tensors[tied].size != tensor.size:
        return False
    return read_bytes(tensor) == read_bytes(shards.tensors[tied])


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
                    f" {ours.directory} and {shards.directory}: merge models whose weights are floating numbers and"
                    " whose other numbers agree; of quantised ones, the originals"
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
        config = checkpoint_files.read_config(shards.directory)
        told = config.get("tie_word_embeddings", checkpoint_files.is_tied(config) or None)
        if tied is None or told is False:
            raise Refusal(
                f"parameter '{tensor.name}' of the pivot {ours.directory} is missing in {shards.directory}: expected a"
                " target trained from this pivot, with all its parameters"
            )
        if told is None and config:
            warnings.warn(
                f"{shards.directory} has no '{tensor.name}' and its config does not say that its input embeddings are"
                " the output head too: they are taken for it",
                stacklevel=2,
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
    if _is_vocabulary(tensor, found, ours, shards):
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


def _is_vocabulary(tensor: StoredTensor, found: StoredTensor, ours: Shards, shards: Shards) -> bool:
    """Whether a parameter has a row for each id of the vocabulary: by its name, or as both configs count them."""
    if not tensor.shape or not found.shape or found.shape[1:] != tensor.shape[1:]:
        return False
    counts = [checkpoint_files.vocabulary_size(held.directory) for held in (ours, shards)]
    return roles.is_embedding(tensor.name) or counts == [tensor.shape[0], found.shape[0]]


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
