"""The dialogues of an experiment as an artifact: read from files, or written by the pocket generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from fusion.artifacts import Artifact, file_digest
from fusion.experiment import FusionConfig
from fusion.pocket.dialogues import PocketData

FUSION = "fusion.jsonl"


def dialogues(config: FusionConfig, produce: Callable[..., Artifact]) -> Artifact:
    """`fusion.jsonl`, and for the pocket experiment the dialogues its models are trained and asked on.

    `produce` makes a stage of them (fusion.pipeline).  Of files, `data_share` draws that share; raises Refusal for what
    `load_conversations` refuses.
    """
    data, share, seed = config.data, config.data_share, config.seed
    if isinstance(data, PocketData):
        from fusion.pocket.questions import write_dialogues

        return produce(
            "data",
            "pocket dialogues",
            config=data,
            inputs={},
            modules=("fusion.pocket.questions",),
            build=lambda out, shown: write_dialogues(data, out),
            seed=data.seed,
        )
    from fusion.conversation import load_conversations, subsample, write_conversations

    def build(out: Path, shown: object) -> Mapping[str, object]:
        found = load_conversations(data, seed=seed)
        found = subsample(found, max(1, round(share * len(found))), seed=seed)
        write_conversations(out / FUSION, found)
        return {"conversations": len(found)}

    files = [Path(name).expanduser() for name in data.files]
    return produce(
        "data",
        "conversations",
        config=[data, seed] if share == 1 else [data, seed, share],
        inputs={f"file-{i}": file_digest(path) for i, path in enumerate(files) if path.is_file()},
        modules=("fusion.conversation",),
        build=build,
        seed=seed,
    )


def content_key(conversations: Artifact, prefix: str) -> str:
    """A digest of the files whose names begin so: the fusion set may change without the pocket models' own dialogues,
    and the questions without either."""
    files = conversations.manifest["files"]
    chosen = sorted((name, entry["sha256"]) for name, entry in files.items() if name.startswith(prefix))
    return hashlib.sha256(repr(chosen).encode()).hexdigest()[:20]
