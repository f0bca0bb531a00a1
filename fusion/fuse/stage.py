"""The fuse stage: one target distribution per position, from the pivot and the sources that were aligned to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.conversations.files import FUSION, content_of
from fusion.fuse import FusionRule
from fusion.runtime.artifacts import Artifact
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import TENSORS
from fusion.runtime.work import Known, Work


def fuse_stage(pivot: Artifact, aligned: Mapping[str, Artifact], rule: FusionRule, *, conversations: Artifact) -> Stage:
    """The pivot's representation fused with one source, with all at once (Multi), or, without any, taken alone.

    The conversations' domains are for a rule that chooses by them.
    """
    what = "all sources" if len(aligned) > 1 else next(iter(aligned), "pivot alone")

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.conversations.conversation import read_conversations
        from fusion.fuse.fuse import fuse

        read = read_conversations(conversations.path / FUSION)
        return fuse(
            pivot=pivot.path,
            aligned={name: part.path for name, part in aligned.items()},
            rule=rule,
            out=out,
            domains={conversation.id: conversation.domain for conversation in read},
        )

    return Stage(
        name="fuse",
        what=what,
        config=rule,
        # The sources' names are written into the result.
        inputs={
            "pivot": pivot.content,
            **{f"source-{name}": part.content for name, part in aligned.items()},
            "conversations": content_of(conversations, "fusion"),
        },
        modules=("fusion.fuse.fuse", type(rule).__module__),
        build=build,
        libraries=TENSORS,
        work=_work,
    )


def shuffle_stage(pivot: Artifact, fused: Artifact, *, what: str, seed: int) -> Stage:
    """Fused targets without what the sources know about the alternatives; `pivot` is its representation."""

    def build(out: Path, advance: Advance) -> Mapping[str, object]:
        from fusion.fuse.shuffle import shuffle
        from fusion.represent import open_representation

        vocabulary = open_representation(pivot.path).vocabulary
        return shuffle(fused=fused.path, vocabulary=vocabulary, seed=seed, out=out)

    return Stage(
        name="fuse",
        what=f"{what}, shuffled",
        config=["shuffled", seed],
        inputs={"fused": fused.content, "pivot": pivot.content},
        modules=("fusion.fuse.shuffle",),
        build=build,
        seed=seed,
        libraries=TENSORS,
        work=_work,
    )


def _work(known: Known) -> tuple[Work, None]:
    return Work(kind="fuse", units=known.dialogues.positions, items=known.dialogues.positions), None
