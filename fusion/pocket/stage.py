"""The stage that makes a pocket model before it has learned anything: random weights, and a tokenizer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.conversations.files import content_of
from fusion.pocket.models import PocketModel
from fusion.runtime.artifacts import Artifact
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import MODELS
from fusion.runtime.work import Known, Size, Work


def initialise_stage(row: str, model: PocketModel, conversations: Artifact) -> Stage:
    """A checkpoint of random weights, and `train.jsonl`, what it is to be trained on."""

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.pocket.models import build_checkpoint

        return build_checkpoint(model, conversations.path, out)

    def work(known: Known) -> tuple[Work, Size]:
        size = model.size
        return Work(kind="initialise", units=size.conversations, items=size.conversations, bytes=size.bytes), size

    return Stage(
        name="initialise",
        what=row,
        config=model,
        inputs={"dialogues": content_of(conversations, "train")},
        modules=("fusion.pocket.models",),
        build=build,
        seed=model.seed,
        libraries=MODELS,
        work=work,
    )
