"""MinEntropy: the distributions of the model that is surest, whatever the gold text says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import TopK
from fusion.fuse.candidate import Fused, TeacherCandidate, by_position, taking_part, whole

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class MinEntropy:
    """Choose by lowest entropy of the candidate's own distributions, so without labels, which may be wrong (ours).

    What is known of a source is its aligned distributions at the pivot's positions, not its entropy in its own
    tokenisation, which no stage carries.  So entropies are in nats per position of the pivot: of the kept entries and
    the tail as one more outcome, which bounds the true entropy from below, and where the candidate speaks: a position
    without a distribution of its own, or with the gold token alone, says nothing about how sure it is.  As in MinCE the
    pivot stands in where the chosen source says nothing, and ties go to the candidate named first.

    Being sure is not being right: a source that is wrong without doubt is chosen, where MinCE sees it by the label.
    """

    granularity: Literal["sequence", "position"] = "sequence"
    """What is chosen for: a whole conversation, by the mean over the positions at which all candidates that say
    anything speak, so that they are compared on the same text (where there is no such position, each at its own), or
    every position by its own entropy."""
    fuse_with_pivot: bool = True
    """As in MinCE."""

    def __call__(self, candidates: Sequence[TeacherCandidate]) -> Fused:
        """The fused distributions of one conversation; candidate 0 is the pivot."""
        indices = taking_part(candidates, fuse_with_pivot=self.fuse_with_pivot)
        entropies = np.stack([entropy(candidates[i].top) for i in indices])
        if self.granularity == "position":
            return by_position(candidates, indices, -entropies)
        speaks = np.stack([candidates[i].speaks for i in indices])
        return whole(candidates, indices[int(np.argmin(mean_entropies(entropies, speaks)))])


def entropy(top: TopK) -> Float64[NDArray[np.float64], " N"]:
    """Nats at every position [N], the tail as one outcome."""
    log_p = np.concatenate([top.log_probs, top.tail[:, None]], axis=1).astype(np.float64)
    p = np.exp(log_p)
    nats: NDArray[np.float64] = -(p * np.where(p > 0, log_p, 0.0)).sum(1)
    return nats


def mean_entropies(
    entropies: Float64[NDArray[np.float64], "S N"], speaks: NDArray[np.bool_]
) -> Float64[NDArray[np.float64], " S"]:
    """Mean of each row [S, N] where all rows that speak anywhere do, else where it speaks itself; a row that speaks
    nowhere, or whose mean is not a number, has infinity."""
    shared = speaks[speaks.any(1)].all(0)
    at = speaks & shared if shared.any() else speaks
    with np.errstate(invalid="ignore"):
        means = np.where(at, entropies, 0.0).sum(1) / at.sum(1)
    return np.where(np.isnan(means), np.inf, means)
