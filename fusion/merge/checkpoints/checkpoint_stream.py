"""Merge checkpoints one parameter at a time, from safetensors shards to shards of the pivot's layout.

A few MiB per thread are held whatever the models' sizes and number; sums run in fp32 and the result is rounded once, to
the widest type that pivot and targets have or to `dtype`, and what that leaves of the update is measured on the way.
Threads work on different parameters, and each parameter is read in one order, so a merge gives the same bits with any
number of them.  Random rules get a generator made from the run's seed and the parameter's name, and stochastic rounding
a key of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from fusion.merge.checkpoints import checkpoint_files
from fusion.merge.checkpoints.checkpoint_plan import Embeddings, ParameterJob, Tokenizer, checked
from fusion.merge.checkpoints.coefficients import CoefficientRow, Tally, write_coefficients
from fusion.merge.checkpoints.shards import (
    SAFETENSORS_NAMES,
    Shards,
    ShardWriter,
    StoredTensor,
    TensorReader,
    itemsize,
    read_bytes,
    torch_dtype,
)
from fusion.merge.checkpoints.stochastic import drawn, rounding_key
from fusion.merge.parameter import PIECE, Combined, Context, Mapper, Parameter, Piece, PiecewiseRule, SurveyingRule
from fusion.rounding import UpdateTally
from fusion.runtime.configure import Refusal, nearest, plain
from fusion.runtime.precision import TORCH_NAMES, Rounding, spelled
from fusion.runtime.safetensors_files import INDEX

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fusion.merge import MergeRule


@runtime_checkable
class RuleChooser(Protocol):
    """A rule for each parameter, as a recipe has them."""

    def rule_for(self, context: Context) -> MergeRule:
        """The rule of the parameter of this name, in this layer."""


def merge(
    *,
    pivot: Path,
    targets: Sequence[Path],
    rule: MergeRule | RuleChooser,
    out: Path,
    seed: int = 0,
    dtype: str | None = None,
    rounding: Rounding = "nearest",
    names: Sequence[str] | None = None,
    embeddings: Embeddings = "refuse",
    tokenizer: Tokenizer = "equal",
    threads: int | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the merged checkpoint and `coefficients.parquet` into `out` and return facts about it.

    `rule` is an entry of MERGE_RULES with its hyperparameters, or chooses one for each parameter.  `dtype` (torch's
    name) is the result's, by default of each parameter the widest that the pivot and the targets have; `rounding` is
    how numbers are rounded to it.  `names` call the targets in the table.  `embeddings: cut` takes the first rows of a
    target's larger embeddings; `tokenizer: pivot` leaves the tokenizers uncompared.
    `advance` is called with the bytes of the pivot done.

    Raises Refusal for a parameter that is missing, of another shape, or not finite, a shard that cannot be read, and
    models of another family or tokenizer; OSError when the disk is full.
    """
    if dtype is not None and dtype not in SAFETENSORS_NAMES:
        raise Refusal(f"dtype is {dtype!r}: {nearest(dtype, SAFETENSORS_NAMES)}")
    if not targets:
        raise Refusal("there is no target to merge: give at least one")
    names = _labels(targets) if names is None else list(names)
    models = checked(pivot, targets, embeddings, tokenizer)
    ours, jobs = models.ours, models.jobs
    out.mkdir(parents=True, exist_ok=True)
    stored = {**ours.tensors, **{job.name: _result(job, dtype) for job in jobs}}
    layout = {new: [t for t in stored.values() if t.file.name == file] for file, new in ours.written_as.items()}
    metadata = {new: ours.metadata[file] for file, new in ours.written_as.items()}
    with _threads(threads) as pool, closing(ShardWriter(out, layout, metadata)) as writer:
        for tensor in models.copied:
            writer.write(tensor.name, memoryview(read_bytes(tensor)))
        rules = _rules(rule, jobs, pool.map)
        progress = _Progress(sum(job.pivot.size for job in jobs), advance)
        largest_first = sorted(jobs, key=lambda job: -job.pivot.elements)
        work = partial(
            _merge_one,
            rules=rules,
            seed=seed,
            rounding=rounding,
            writer=writer,
            stored=stored,
            names=names,
        )
        rows: dict[str, list[CoefficientRow]] = {}
        updates: dict[str, UpdateTally] = {}
        for job, (found, update) in zip(largest_first, pool.map(work, largest_first), strict=True):
            rows[job.name], updates[job.name] = found, update
            progress.add(job.pivot.size)
    entries: Counter[str] = Counter()
    for job in jobs:
        entries[TORCH_NAMES[stored[job.name].dtype]] += job.pivot.elements
    most = max(entries, key=entries.__getitem__, default="float32")
    files = checkpoint_files.copy_files(pivot, out, dtype=most, untied=models.untied)
    if ours.index is not None or len(layout) > 1:
        _write_index(out, ours, layout)
    table = [row for job in jobs for row in rows[job.name]]
    write_coefficients(table, out / "coefficients.parquet")
    used: list[MergeRule] = []  # one, or as many as a recipe's gradients and filters give
    for chosen, _ in rules.values():
        if chosen not in used:
            used.append(chosen)
    update = UpdateTally()
    for job in jobs:
        update.include(updates[job.name])
    return _facts(used, names, seed, _dtypes(jobs, stored, rounding), update, stored, table, files)


def _labels(targets: Sequence[Path]) -> list[str]:
    """The directories' names, numbered where two are equal."""
    found = [target.name or str(target) for target in targets]
    return [name if found.count(name) == 1 else f"{name}#{i}" for i, name in enumerate(found)]


def _result(job: ParameterJob, dtype: str | None) -> StoredTensor:
    """Where the merged parameter goes, and in which type."""
    code = SAFETENSORS_NAMES[dtype or job.widest]
    return replace(job.pivot, dtype=code, size=job.pivot.elements * itemsize(code))


def _dtypes(jobs: Sequence[ParameterJob], stored: Mapping[str, StoredTensor], rounding: Rounding) -> dict[str, object]:
    """The types of the files that were read and written, and how one became the other."""
    targets = [spelled(TORCH_NAMES[part.dtype] for part in own) for own in zip(*(job.targets for job in jobs))]
    return {
        "pivot": spelled(TORCH_NAMES[job.pivot.dtype] for job in jobs),
        "targets": targets,
        "stored": spelled(TORCH_NAMES[stored[job.name].dtype] for job in jobs),
        "rounding": rounding,
    }


@contextmanager
def _threads(threads: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool; torch's own threads are limited to one meanwhile, as ours already keep the cores busy."""
    import torch

    from fusion.merge import compiled  # noqa: F401  compiled code is loaded once, not by every thread at a time

    count = threads or min(2, len(os.sched_getaffinity(0)))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _rules(
    rule: MergeRule | RuleChooser, jobs: Sequence[ParameterJob], run: Mapper
) -> dict[str, tuple[MergeRule, Any]]:
    """For each parameter its rule and what the rule's survey found over all parameters that share it."""

    def choose(job: ParameterJob) -> MergeRule:
        return rule.rule_for(job.context) if isinstance(rule, RuleChooser) else rule

    chosen = {job.name: choose(job) for job in jobs}
    surveys: list[tuple[MergeRule, Any]] = []
    found: dict[str, tuple[MergeRule, Any]] = {}
    for job in jobs:
        own = chosen[job.name]
        if not (isinstance(own, SurveyingRule) and own.surveys):
            found[job.name] = (own, None)
            continue
        result = next((survey for other, survey in surveys if other == own), None)
        if result is None:
            with ExitStack() as stack:
                shared = [_parameter(other, stack) for other in jobs if chosen[other.name] == own]
                result = own.survey(shared, map=run)
            surveys.append((own, result))
        found[job.name] = (own, result)
    return found


def _merge_one(
    job: ParameterJob,
    *,
    rules: Mapping[str, tuple[MergeRule, Any]],
    seed: int,
    rounding: Rounding,
    writer: ShardWriter,
    stored: Mapping[str, StoredTensor],
    names: Sequence[str],
) -> tuple[list[CoefficientRow], UpdateTally]:
    import torch

    rule, survey = rules[job.name]
    context = replace(job.context, survey=survey)
    generator = torch.Generator().manual_seed(parameter_seed(seed, job.random_name))
    result = stored[job.name]
    key = rounding_key(seed, job.random_name) if rounding == "stochastic" else None
    tally = Tally(len(job.targets))
    with ExitStack() as stack:
        parameter = _parameter(job, stack)
        if isinstance(rule, PiecewiseRule):
            measured = rule.measure(parameter, generator=generator, context=context)
            weights = measured.weights
            combine: Callable[[Piece], Combined] = partial(rule.combine, measured=measured)
        else:  # a rule with no more than its call needs the whole parameter at once
            weights = (float("nan"),) * len(job.targets)
            combine = _whole(rule, parameter, job, generator, context)
        for piece in parameter.pieces():
            combined = combine(piece)
            if key is None:
                rounded = combined.merged.to(torch_dtype(result.dtype))
            else:
                rounded = drawn(combined.merged, result.dtype, key, piece.start)
            tally.add(piece, combined, rounded)
            if not tally.finite:
                _refuse_unless_finite(piece, combined, job)
            if result.dtype == "F16" and not bool(torch.isfinite(rounded).all()):
                raise Refusal(f"the merged parameter '{job.name}' overflows float16: set dtype: bfloat16")
            writer.write(job.name, _bytes(rounded), piece.start * itemsize(result.dtype))
    return tally.rows(job.name, job.layer, job.pivot.elements, names, weights), tally.update


def parameter_seed(seed: int, name: str) -> int:
    """The seed of a parameter's generator, from the run's seed and the parameter's name."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")


def _parameter(job: ParameterJob, stack: ExitStack) -> Parameter:
    """The parameter as pieces read from the files, which are open while one reads."""
    elements = job.pivot.elements
    tensors = (job.pivot, *job.targets)
    dtype = np.uint16 if all(tensor.dtype == "BF16" for tensor in tensors) else np.float32

    def pieces() -> Iterator[Piece]:
        with ExitStack() as files:
            readers = [files.enter_context(closing(TensorReader(tensor))) for tensor in tensors]
            room = np.empty(len(readers) * min(PIECE, elements), dtype)
            for start in range(0, elements, PIECE):
                count = min(PIECE, elements - start)
                rows = room[: len(readers) * count].reshape(len(readers), count)
                for reader, row in zip(readers, rows, strict=True):
                    reader.read(start, row)
                yield Piece(start, rows)

    return Parameter(
        name=job.name, elements=elements, targets=len(job.targets), layer=job.layer, layers=job.layers, pieces=pieces
    )


def _whole(
    rule: MergeRule, parameter: Parameter, job: ParameterJob, generator: torch.Generator, context: Context
) -> Callable[[Piece], Combined]:
    import torch

    pivot = torch.empty(parameter.elements)
    targets = [torch.empty(parameter.elements) for _ in job.targets]
    for piece in parameter.pieces():
        end = piece.start + piece.rows.shape[1]
        pivot[piece.start : end] = piece.pivot
        for whole, part in zip(targets, piece.targets, strict=True):
            whole[piece.start : end] = part
    shape = job.pivot.shape
    merged = rule(pivot.view(shape), [t.view(shape) for t in targets], generator=generator, context=context)
    flat = merged.float().reshape(-1)
    return lambda piece: Combined(flat[piece.start : piece.start + piece.rows.shape[1]])


def _refuse_unless_finite(piece: Piece, combined: Combined, job: ParameterJob) -> None:
    import torch

    for tensor, stored in zip((piece.pivot, *piece.targets), (job.pivot, *job.targets), strict=True):
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            first = piece.start + int((~torch.isfinite(tensor)).nonzero()[0])
            raise Refusal(
                f"parameter '{job.name}' of {stored.file.parent} has entries that are NaN or infinite (the first at"
                f" {first}, {bad} near it): its training diverged or the file is damaged; give another checkpoint"
            )
    if not bool(torch.isfinite(combined.merged).all()):
        raise Refusal(f"merging '{job.name}' gives NaN or infinite entries: the rule's weights are too large")


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    return tensor.contiguous().view(torch.uint8).numpy().data


class _Progress:
    def __init__(self, total: int, advance: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._advance = 0, total, advance

    def add(self, size: int) -> None:
        self._done += size
        if self._advance is not None:
            self._advance(self._done, self._total)


def _write_index(out: Path, ours: Shards, layout: Mapping[str, Sequence[StoredTensor]]) -> None:
    import json

    index = dict(ours.index or {})
    total = sum(tensor.size for tensors in layout.values() for tensor in tensors)
    index["metadata"] = {**index.get("metadata", {}), "total_size": total}
    index["weight_map"] = {tensor.name: file for file, tensors in layout.items() for tensor in tensors}
    (out / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _facts(
    rules: Sequence[MergeRule],
    names: Sequence[str],
    seed: int,
    dtypes: Mapping[str, object],
    update: UpdateTally,
    stored: Mapping[str, StoredTensor],
    table: Sequence[CoefficientRow],
    files: Sequence[str],
) -> dict[str, Any]:
    def share(target: str) -> float:
        rows = [row for row in table if row["target"] == target]
        elements = sum(row["elements"] for row in rows)
        kept = sum(row["kept_fraction"] * row["elements"] for row in rows) / max(elements, 1)
        return round(kept, 6)

    return {
        "rules": [plain(rule) for rule in rules],
        "targets": list(names),
        "seed": seed,
        "dtype": dict(dtypes),
        "update": update.facts(),
        "parameters": len(stored),
        "elements": sum(tensor.elements for tensor in stored.values()),
        "bytes": sum(tensor.size for tensor in stored.values()),
        "kept_fraction": {name: share(name) for name in names},
        "copied": list(files),
    }
