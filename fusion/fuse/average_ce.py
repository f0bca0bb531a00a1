"""AverageCE: all models' distributions, mixed with weights from their cross-entropy on the gold text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse.candidate import LABEL, Fused, TeacherCandidate, standing_in, taking_part

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64


@dataclass(frozen=True, kw_only=True)
class AverageCE:
    """P = sum_i w_i P_i per sequence (FuseLLM, arXiv 2401.10491; only its code has this rule, with `mass` kept).

    A source's position without a distribution counts as the pivot's (EMPTY) or as the gold token (ONE_HOT).
    `taught_by` names the heaviest candidate that speaks at the position, LABEL when none does.
    """

    unit: Literal["token", "byte"] = "token"
    """As in MinCE."""
    weighting: Literal["reward", "softmax"] = "reward"
    """FuseLLM's w = softmax_i(exp(-CE_i)), where rewards lie in 0 to 1 and the weights stay near equal, or
    w = softmax_i(-CE_i / temperature)."""
    temperature: float = 1.0
    fuse_with_pivot: bool = True
    """As in MinCE."""
    mass: Literal["full", "kept"] = "full"
    """What P_i is: a model's whole distribution, whose tail stays the tail, so that it teaches kept ids by the mass it
    gives them; or, as in FuseLLM's code, its kept entries made to sum to one before they are mixed, so that its weight
    alone says how much it teaches."""
    keep: int | None = None
    """How many of the union of the kept ids are kept, the likeliest; None: all.  Other mass is in the tail."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: expected more than 0")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep is {self.keep}: expected at least 1, or null to keep the union")

    def __call__(self, candidates: Sequence[TeacherCandidate]) -> Fused:
        """The fused distributions of one conversation; candidate 0 is the pivot."""
        indices = taking_part(candidates, fuse_with_pivot=self.fuse_with_pivot)
        log_weights = self.log_weights(np.array([candidates[i].cross_entropy(self.unit) for i in indices]))
        tops: list[TopK] = []
        speaks: list[NDArray[np.float32]] = []
        for i in indices:
            top, label = standing_in(candidates[i], candidates[0])
            tops.append(top if self.mass == "full" else renormalised(top))
            speaks.append(np.where(label, -np.inf, log_weights[len(speaks)]))
        weight = np.stack(speaks)
        # Where a source says nothing, the pivot speaks in its place.
        speaker = np.stack([np.where(candidates[i].says, i, 0) for i in indices])
        first = weight.argmax(0)
        taught_by = np.where(weight.max(0) > -np.inf, speaker[first, np.arange(weight.shape[1])], LABEL)
        return Fused(top=mixture(tops, log_weights, keep=self.keep), taught_by=taught_by.astype(np.int8))

    def log_weights(self, entropies: Float64[NDArray[np.float64], " S"]) -> Float32[NDArray[np.float32], " S"]:
        """Log of the candidates' weights; one whose cross-entropy is not a number gets none, unless all do."""
        known = np.isfinite(entropies)
        if not known.any():
            return np.full(len(entropies), -np.log(len(entropies)), np.float32)
        safe = np.where(known, entropies, 0.0)
        logits = np.exp(-safe) if self.weighting == "reward" else -safe / self.temperature
        logits = np.where(known, logits, -np.inf)
        logits -= logits.max()
        log_weights: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
        return log_weights


def renormalised(top: TopK) -> TopK:
    """The kept entries alone, summing to one; a position that says nothing stays as it is."""
    kept = np.logaddexp.reduce(top.log_probs, axis=1, initial=-np.inf)
    silent = np.isneginf(kept)
    return TopK(
        ids=top.ids,
        log_probs=(top.log_probs - np.where(silent, 0.0, kept)[:, None]).astype(np.float32),
        tail=np.where(silent, top.tail, -np.inf).astype(np.float32),
    )


def mixture(tops: Sequence[TopK], log_weights: Float32[NDArray[np.float32], " S"], *, keep: int | None = None) -> TopK:
    """sum_i w_i P_i over sparse distributions [N, K_i]: the union of ids, likeliest first, mass conserved in the tail.

    `log_weights` [S] are the logs of weights that sum to one.  fp32 in log space throughout.
    """
    ids = np.concatenate([top.ids for top in tops], axis=1)
    scores = np.concatenate([top.log_probs + w for top, w in zip(tops, log_weights, strict=True)], axis=1)
    tail = np.logaddexp.reduce(np.stack([top.tail + w for top, w in zip(tops, log_weights, strict=True)]), axis=0)
    length, slots = ids.shape
    if not length:
        return TopK(ids=ids[:, :1], log_probs=scores[:, :1], tail=tail)
    order = np.argsort(ids, axis=1, kind="stable")
    ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
    opens = np.ones((length, slots), bool)
    opens[:, 1:] = ids[:, 1:] != ids[:, :-1]
    sums = np.logaddexp.reduceat(scores.reshape(-1), np.flatnonzero(opens))
    merged = np.full((length, slots), -np.inf, np.float32)
    merged[opens] = sums
    merged[ids == NO_TOKEN] = -np.inf
    # Ids ascend within a row, so a stable sort by probability breaks ties towards the lower id.
    order = np.argsort(-merged, axis=1, kind="stable")
    ids, merged = np.take_along_axis(ids, order, 1), np.take_along_axis(merged, order, 1)
    ids[merged == -np.inf] = NO_TOKEN
    width = max(1, int((ids != NO_TOKEN).sum(1).max()))
    if keep is not None and keep < width:
        width = keep
        lost = np.logaddexp.reduce(merged[:, width:], axis=1)
        tail = np.logaddexp(tail, lost)
    return TopK(ids=ids[:, :width], log_probs=merged[:, :width], tail=tail.astype(np.float32))
