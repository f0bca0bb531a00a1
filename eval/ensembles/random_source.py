"""A source drawn for each question: what any selection must beat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from eval.ensembles.selection import Options, Selects


@dataclass(frozen=True, kw_only=True)
class Random(Selects):
    """Each complete answer is as likely as any other; the draw depends on `seed` and the question's id alone."""

    seed: int = 0

    def choose(self, options: Options) -> dict[str, int]:
        chosen = {}
        for question_id, offered in options.items():
            places = [place for place, option in enumerate(offered) if option.complete] or [0]
            chosen[question_id] = places[draw(self.seed, question_id) % len(places)]
        return chosen


def draw(seed: int, question_id: str) -> int:
    """A whole number of 64 bits that looks random and is always the same."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{question_id}".encode()).digest()[:8], "big")
