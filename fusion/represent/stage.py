"""The represent stage: a model's next-token distributions on the assistant's tokens of every conversation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.checkpoint import Checkpoint
from fusion.conversations.files import FUSION, content_of
from fusion.represent.teacher_forcing import RepresentConfig
from fusion.runtime.artifacts import Artifact
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import MODELS
from fusion.runtime.work import Known, Work


def represent_stage(checkpoint: Checkpoint, conversations: Artifact, config: RepresentConfig) -> Stage:
    """One model run over the fusion dialogues by teacher forcing."""

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.conversations.conversation import read_conversations
        from fusion.represent.teacher_forcing import represent

        return represent(
            checkpoint=checkpoint.path,
            conversations=read_conversations(conversations.path / FUSION),
            config=config,
            out=out,
            advance=advance,
        )

    def work(known: Known) -> tuple[Work, None]:
        size, dialogues = known.sizes[checkpoint.key], known.dialogues
        tokens = dialogues.count * min(dialogues.tokens, config.max_length)
        return Work(
            kind="represent",
            units=2 * size.active * tokens,
            items=dialogues.positions * config.k / 10,
            holds=size.parameters * (2 if config.dtype == "bfloat16" else 4),
        ), None

    return Stage(
        name="represent",
        what=checkpoint.model,
        config=config,
        inputs={"checkpoint": checkpoint.key, "conversations": content_of(conversations, "fusion")},
        modules=("fusion.represent.teacher_forcing",),
        build=build,
        libraries=MODELS,
        device="auto",
        needs_gpu=True,
        work=work,
    )
