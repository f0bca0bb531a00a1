"""The train stage: a checkpoint fine-tuned on conversations, towards fused distributions where there are any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fusion.runtime.artifacts import Artifact
from fusion.runtime.precision import ITEM_BYTES
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import MODELS
from fusion.runtime.work import ADAM_BYTES, Known, Size, Work
from fusion.train.config import TrainConfig
from fusion.train.launch import LOG, MODULES, train

# transformers writes a checkpoint to resume from before it removes the oldest of the two that the trainer keeps.
CHECKPOINTS_AT_ONCE = 3


def train_stage(
    *,
    what: str,
    initial: Path,
    initial_key: str,
    text: Path,
    text_key: str,
    fused: Artifact | None,
    config: TrainConfig,
    name: str = "train",
) -> Stage:
    """`initial` trained on the conversations in `text`; `name` is `pretrain` for a model that starts from nothing."""

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        taught = fused.path if fused else None
        return train(initial=initial, conversations=text, fused=taught, config=config, out=out, progress=advance)

    def work(known: Known) -> tuple[Work, Size]:
        size, dialogues = known.sizes[initial_key], known.dialogues
        conversations = size.conversations or dialogues.count
        seen = config.max_steps * config.batch_size if config.max_steps else config.epochs * conversations
        trained = replace(size, bytes_each=ITEM_BYTES[config.save_dtype], conversations=0)
        weights = 2 if config.precision == "bf16_pure" else 4
        state = size.parameters * (weights + ADAM_BYTES)
        saved = math.ceil(seen / config.batch_size / config.save_every)  # the last step's always
        return Work(
            kind="train",
            units=6 * size.active * seen * min(dialogues.tokens, config.max_length),
            items=math.ceil(seen / config.batch_size),
            bytes=trained.bytes,
            working=min(CHECKPOINTS_AT_ONCE, saved) * state,
            memory=state,
        ), trained

    return Stage(
        name=name,
        what=what,
        config=config,
        inputs={"initial": initial_key, "text": text_key, **({"fused": fused.content} if fused else {})},
        modules=(*MODULES, type(config.objective).__module__),
        build=build,
        seed=config.seed,
        libraries=(*MODELS, "accelerate"),
        device=config.device,
        logs=(LOG,),
        needs_gpu=True,
        work=work,
    )
