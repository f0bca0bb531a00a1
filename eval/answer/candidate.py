"""What is evaluated: a checkpoint with its row in the table; and the digest that keys are made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A checkpoint to evaluate: its row in the table, its directory, and the digest of its weights.

    `role` and `oracle` are those of its row (`eval.scored.ScoredModel`).
    """

    model: str
    group: str
    path: Path
    weights: str
    role: str = ""
    oracle: str = ""


def digest(value: object) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:20]
