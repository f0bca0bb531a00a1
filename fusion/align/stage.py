"""The align stage: one source's distributions at the pivot's positions, in the pivot's ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.align import AlignConfig, method
from fusion.checkpoint import Checkpoint
from fusion.runtime.artifacts import Artifact
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import MODELS
from fusion.runtime.work import Known, Work


def align_stage(
    pivot: Checkpoint,
    source: Checkpoint,
    *,
    pivot_represented: Artifact,
    source_represented: Artifact,
    config: AlignConfig,
) -> Stage:
    """The source's representation carried over to the pivot's."""
    chosen = method(config)

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.align import align
        from fusion.represent import open_representation
        from fusion.represent.checkpoint import load_tokenizer

        return align(
            pivot=open_representation(pivot_represented.path),
            source=open_representation(source_represented.path),
            pivot_tokenizer=load_tokenizer(pivot.path),
            source_tokenizer=load_tokenizer(source.path),
            config=config,
            out=out,
            advance=advance,
        )

    def work(known: Known) -> tuple[Work, None]:
        return Work(kind="align", units=known.dialogues.positions, items=known.dialogues.positions), None

    return Stage(
        name="align",
        what=source.model,
        config=[config, chosen.described()],
        inputs={
            "pivot": pivot_represented.content,
            "source": source_represented.content,
            # Tokens are spelled by the tokenizers, which a representation does not hold.
            "pivot_checkpoint": pivot.key,
            "source_checkpoint": source.key,
        },
        modules=(
            "fusion.align.carry",
            *(part.__module__ for part in (chosen.aligner, chosen.vocabulary_map, chosen.rule)),
        ),
        build=build,
        libraries=MODELS,
        work=work,
    )
