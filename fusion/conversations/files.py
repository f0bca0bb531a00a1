"""The files of an experiment's dialogues: the fusion set's name, and a key of a part of them."""

from __future__ import annotations

from fusion.runtime.artifacts import Artifact
from fusion.runtime.digests import content_key

FUSION = "fusion.jsonl"


def content_of(conversations: Artifact, prefix: str) -> str:
    """A key of the files whose names begin so: the fusion set may change without the pocket models' own dialogues, and
    the questions without either."""
    files = conversations.manifest["files"].items()
    return content_key([(name, noted["sha256"]) for name, noted in files if name.startswith(prefix)])
