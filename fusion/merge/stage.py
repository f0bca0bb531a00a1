"""The merge stage: the targets as one model in weight space, by one rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fusion.checkpoint import Checkpoint
from fusion.merge import MergeRule
from fusion.runtime.precision import ITEM_BYTES, MergedConfig
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import TENSORS
from fusion.runtime.work import Known, Size, Work


def merge_stage(
    pivot: Checkpoint, targets: Sequence[Checkpoint], *, what: str, rule: MergeRule, how: MergedConfig, seed: int
) -> Stage:
    """`what` is the merged model's row of the table, `how` the precision it is written in."""

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.merge.checkpoints.checkpoint_stream import merge

        return merge(
            pivot=pivot.path,
            targets=[target.path for target in targets],
            names=[target.model for target in targets],
            rule=rule,
            seed=seed,
            dtype=how.dtype,
            rounding=how.rounding,
            out=out,
            advance=advance,
        )

    def work(known: Known) -> tuple[Work, Size]:
        size, *others = (known.sizes[model.key] for model in (pivot, *targets))
        read = size.bytes + sum(other.bytes for other in others)
        each = ITEM_BYTES[how.dtype] if how.dtype else max(one.bytes_each for one in (size, *others))
        merged = replace(size, bytes_each=each)
        return Work(kind="merge", units=read, bytes=merged.bytes), merged

    return Stage(
        name="merge",
        what=what,
        config=[rule, seed, *how.decides],
        inputs={"pivot": pivot.key, **{f"target-{i}": target.key for i, target in enumerate(targets)}},
        modules=("fusion.merge.checkpoints.checkpoint_stream", type(rule).__module__),
        build=build,
        seed=seed,
        libraries=(*TENSORS, "numba"),
        work=work,
    )
