"""A model ready for the next stage: what stages hand to each other, and in the end to evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model ready for the next stage: its directory and the key that stands for its bytes.

    `role`: what it is in the recipe: pivot, source, sft, multi, target or merged.
    """

    model: str
    group: str
    path: Path
    key: str
    role: str = ""
