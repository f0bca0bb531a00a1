"""What a fusion rule chooses among, and what it gives: one conversation at the pivot's labelled positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import TopK

LABEL = -1  # taught by no model: the gold token alone


@dataclass(frozen=True, kw_only=True)
class TeacherCandidate:
    """One model's next-token distributions for one conversation, in the pivot's ids; the pivot is candidate 0.

    `nll` [nats], `tokens` and `bytes` are the model's own, over the assistant text in its own tokenisation.  `says` [L]
    is False where the alignment gave nothing (EMPTY), so that the pivot's distribution stands in; `label` [L] is True
    where it gave the gold token alone (ONE_HOT).  `gold_log_prob` [L] is log p(pivot's label), needed only by rules
    that choose by position.
    """

    name: str
    top: TopK
    nll: float
    tokens: int
    bytes: int
    says: NDArray[np.bool_]
    label: NDArray[np.bool_]
    gold_log_prob: NDArray[np.float32] | None = None

    def cross_entropy(self, unit: Literal["token", "byte"]) -> float:
        """Mean negative log-likelihood in nats per token of the model's own tokenisation, or per byte of text.

        Infinite where the model has read nothing of the conversation, or its likelihood is not a number.
        """
        count = self.tokens if unit == "token" else self.bytes
        return self.nll / count if count and math.isfinite(self.nll) else math.inf


@dataclass(frozen=True, kw_only=True)
class Fused:
    """The distributions to teach [L, K'], and which candidate each comes from: its index, or LABEL."""

    top: TopK
    taught_by: NDArray[np.int8]


def standing_in(candidate: TeacherCandidate, pivot: TeacherCandidate) -> tuple[TopK, NDArray[np.bool_]]:
    """The candidate's distributions with the pivot's where it says nothing, and where they are the gold token alone.

    Both are brought to the same number of slots.
    """
    width = max(candidate.top.ids.shape[1], pivot.top.ids.shape[1])
    own, other = widened(candidate.top, width), widened(pivot.top, width)
    says = candidate.says
    top = TopK(
        ids=np.where(says[:, None], own.ids, other.ids),
        log_probs=np.where(says[:, None], own.log_probs, other.log_probs),
        tail=np.where(says, own.tail, other.tail),
    )
    return top, candidate.label & says


def widened(top: TopK, width: int) -> TopK:
    """`top` with unused slots added up to `width`."""
    missing = width - top.ids.shape[1]
    if missing <= 0:
        return top
    return TopK(
        ids=np.pad(top.ids, ((0, 0), (0, missing)), constant_values=-1),
        log_probs=np.pad(top.log_probs, ((0, 0), (0, missing)), constant_values=-np.inf),
        tail=top.tail,
    )


def taking_part(candidates: Sequence[TeacherCandidate], *, fuse_with_pivot: bool) -> list[int]:
    """Indices of the candidates a rule weighs: all, or the sources alone when the pivot is not to take part."""
    if fuse_with_pivot or len(candidates) == 1:
        return list(range(len(candidates)))
    return list(range(1, len(candidates)))


def select(tops: Sequence[TopK], choice: NDArray[np.int64]) -> TopK:
    """Position by position the distribution of `tops[choice]`; all have the same width."""
    rows = np.arange(len(choice))
    return TopK(
        ids=np.stack([top.ids for top in tops])[choice, rows],
        log_probs=np.stack([top.log_probs for top in tops])[choice, rows],
        tail=np.stack([top.tail for top in tops])[choice, rows],
    )


def gold_log_prob(top: TopK, gold: NDArray[np.int32]) -> NDArray[np.float32]:
    """log p(gold) [L] as far as the kept entries say; where gold is in no slot, the tail's mass, which bounds it."""
    found = np.where(top.ids == gold[:, None], top.log_probs, -np.inf).max(-1, initial=-np.inf)
    return np.where((top.ids == gold[:, None]).any(-1), found, top.tail).astype(np.float32)
