"""What a fusion rule chooses among, and what it gives: one conversation at the pivot's labelled positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import NO_TOKEN, TopK

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int8, Int32, Int64

LABEL = -1  # taught by no model: the gold token alone


@dataclass(frozen=True, kw_only=True)
class TeacherCandidate:
    """One model's next-token distributions for one conversation, in the pivot's ids; the pivot is candidate 0."""

    name: str
    top: TopK
    nll: float  # in nats, over the assistant text in the model's own tokenisation
    tokens: int  # of that text, the model's own
    bytes: int  # of that text
    # False where the alignment gave nothing (EMPTY), so that the pivot's distribution stands in.
    says: Bool[NDArray[np.bool_], " N"]
    label: Bool[NDArray[np.bool_], " N"]  # True where the alignment gave the gold token alone (ONE_HOT)
    # Log p(pivot's label), needed only by rules that choose by position.
    gold_log_prob: Float32[NDArray[np.float32], " N"] | None = None
    # The conversation's, needed only by rules that choose by it; "" where it has none.
    domain: str = ""

    @property
    def speaks(self) -> Bool[NDArray[np.bool_], " N"]:
        """Where it has a distribution of its own: the alignment gave neither nothing nor the gold token alone."""
        return self.says & ~self.label

    def cross_entropy(self, unit: Literal["token", "byte"]) -> float:
        """Mean negative log-likelihood in nats per token of the model's own tokenisation, or per byte of text.

        Infinite where the model has read nothing of the conversation, or its likelihood is not a number.
        """
        count = self.tokens if unit == "token" else self.bytes
        return self.nll / count if count and math.isfinite(self.nll) else math.inf


@dataclass(frozen=True, kw_only=True)
class Fused:
    """The distributions to teach [N, K'], and which candidate each comes from: its index, or LABEL."""

    top: TopK
    taught_by: Int8[NDArray[np.int8], " N"]


def standing_in(candidate: TeacherCandidate, pivot: TeacherCandidate) -> tuple[TopK, Bool[NDArray[np.bool_], " N"]]:
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


def whole(candidates: Sequence[TeacherCandidate], best: int) -> Fused:
    """The conversation taught by candidate `best`: the pivot stands in where it says nothing, and where it has the gold
    token alone, that is taught."""
    top, label = standing_in(candidates[best], candidates[0])
    taught_by = np.where(label, LABEL, np.where(candidates[best].says, best, 0)).astype(np.int8)
    return Fused(top=top, taught_by=taught_by)


def by_position(
    candidates: Sequence[TeacherCandidate], indices: Sequence[int], scores: Float[NDArray[np.floating], "S N"]
) -> Fused:
    """Every position taught by that of the candidates `indices` whose score [S, N] there is highest, the first of equal
    ones; a candidate takes part where it speaks and its score is a number.  Where none does the pivot teaches, or the
    gold token alone where the first of `indices` has that.
    """
    score = np.where(np.stack([candidates[i].speaks for i in indices]), scores, -np.inf)
    score = np.where(np.isnan(score), -np.inf, score)
    choice = np.asarray(indices)[score.argmax(0)]
    nothing = ~(score > -np.inf).any(0)
    width = max(candidate.top.ids.shape[1] for candidate in candidates)
    fallback, label = standing_in(candidates[indices[0]], candidates[0])
    tops = [widened(top, width) for top in (*(candidate.top for candidate in candidates), fallback)]
    taught_by = np.where(nothing, np.where(label, LABEL, 0), choice).astype(np.int8)
    return Fused(top=select(tops, np.where(nothing, len(candidates), choice)), taught_by=taught_by)


def select(tops: Sequence[TopK], choice: Int64[NDArray[np.int64], " N"]) -> TopK:
    """Position by position the distribution of `tops[choice]`; all have the same width."""
    rows = np.arange(len(choice))
    return TopK(
        ids=np.stack([top.ids for top in tops])[choice, rows],
        log_probs=np.stack([top.log_probs for top in tops])[choice, rows],
        tail=np.stack([top.tail for top in tops])[choice, rows],
    )


def gold_log_prob(top: TopK, gold: Int32[NDArray[np.int32], " N"]) -> Float32[NDArray[np.float32], " N"]:
    """log p(gold) [N] as far as the kept entries say; where gold is in no slot, what bounds it.

    That is the mass of the tail, and the least of the entries, since the likeliest were kept: a tail also holds what
    the source gave to tokens that the pivot lacks.
    """
    here = top.ids == gold[:, None]
    found = np.where(here, top.log_probs, -np.inf).max(-1, initial=-np.inf)
    least = np.where(top.ids == NO_TOKEN, np.inf, top.log_probs).min(-1, initial=np.inf)
    return np.where(here.any(-1), found, np.minimum(top.tail, least)).astype(np.float32)
