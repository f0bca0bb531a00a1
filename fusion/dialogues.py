"""The dialogues of an experiment as an artifact: read from files or the hub, or written by the pocket generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fusion.conversations.conversation import DataConfig
from fusion.conversations.files import FUSION
from fusion.conversations.hub import dataset_key
from fusion.experiment import FusionConfig
from fusion.pocket.dialogues import PocketData
from fusion.runtime.digests import file_digest
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.work import Known, Work


def dialogues_stage(config: FusionConfig) -> Stage:
    """`fusion.jsonl`, and for the pocket experiment the dialogues its models are trained and asked on.

    Of files and data sets, `data_share` draws that share; the build raises Refusal for what `load_conversations`
    refuses, and this for what `DataConfig.paths` and `dataset_key` do.
    """
    data = config.data
    return _written(data) if isinstance(data, PocketData) else _read(data, config.data_share, config.seed)


def _written(data: PocketData) -> Stage:
    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.pocket.questions import write_dialogues

        return write_dialogues(data, out)

    return Stage(
        name="data",
        what="pocket dialogues",
        config=data,
        inputs={},
        modules=("fusion.pocket.questions",),
        build=build,
        seed=data.seed,
        work=_work,
    )


def _read(data: DataConfig, share: float, seed: int) -> Stage:
    inputs = {f"file-{i}": file_digest(path) for i, path in enumerate(data.paths()) if path.is_file()}
    if data.dataset is not None:
        inputs["dataset"] = dataset_key(data.dataset, data.revision)
    found_at = replace(data, revision=inputs.get("dataset"))  # a branch may move before it is read

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.conversations.conversation import load_conversations, subsample, write_conversations

        found = load_conversations(found_at, seed=seed)
        found = subsample(found, max(1, round(share * len(found))), seed=seed)
        write_conversations(out / FUSION, found)
        return {"conversations": len(found)}

    return Stage(
        name="data",
        what="conversations",
        config=[data, seed, share],
        inputs=inputs,
        modules=("fusion.conversations.conversation",),
        build=build,
        seed=seed,
        work=_work,
    )


def _work(known: Known) -> tuple[Work, None]:
    written = known.dialogues.written
    return Work(kind="dialogues", units=written, items=written), None
