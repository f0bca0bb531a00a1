"""MinCE: the distributions of the model with the lowest cross-entropy on the gold text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.fuse.candidate import Fused, TeacherCandidate, by_position, taking_part, whole
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from jaxtyping import Float, Float32


@dataclass(frozen=True, kw_only=True)
class MinCE:
    """Choose by lowest cross-entropy (FuseLLM, arXiv 2401.10491; FuseChat, arXiv 2402.16107, section on fusion).

    With several sources at once this is the papers' Multi ("fuse-all-mince").  Ties go to the candidate named first, so
    to the pivot.  Where the chosen source says nothing the pivot teaches; where it has the gold token alone, that is
    taught.
    """

    unit: Literal["token", "byte"] = "token"
    """What cross-entropies are compared per: tokens of each model's own tokenisation, as the papers do, by which a
    coarse vocabulary looks worse than it is, or bytes, which repairs that."""
    granularity: Literal["sequence", "position"] = "sequence"
    """What is chosen for: a whole conversation, as in the papers, or (ours) every token, by the probability given to
    the pivot's label; a source takes part where a distribution of its own was transferred, the pivot everywhere."""
    fuse_with_pivot: bool = True
    """Whether the pivot takes part in the comparison."""
    rounding: Literal["none", "bf16"] = "none"
    """bf16 compares as the released trainer does, by the reward bf16(1 / exp(bf16(CE))): cross-entropies that differ by
    less than about half a percent are then ties."""

    def __call__(self, candidates: Sequence[TeacherCandidate]) -> Fused:
        """The fused distributions of one conversation; candidate 0 is the pivot."""
        indices = taking_part(candidates, fuse_with_pivot=self.fuse_with_pivot)
        if self.granularity == "position":
            return self._by_position(candidates, indices)
        entropies = np.array([candidates[i].cross_entropy(self.unit) for i in indices])
        if self.rounding == "bf16":
            entropies = -bfloat16(np.exp(-bfloat16(entropies)))
        best = indices[int(np.argmin(entropies))]
        return whole(candidates, best)

    def _by_position(self, candidates: Sequence[TeacherCandidate], indices: Sequence[int]) -> Fused:
        scores = []
        for i in indices:
            candidate = candidates[i]
            if candidate.gold_log_prob is None:
                raise Refusal(
                    f"min_ce with granularity 'position' needs the label's log-probability from {candidate.name}:"
                    " use granularity=sequence"
                )
            scores.append(candidate.gold_log_prob)
        return by_position(candidates, indices, np.stack(scores))


def bfloat16(values: Float[NDArray[np.float32] | NDArray[np.float64], " S"]) -> Float32[NDArray[np.float32], " S"]:
    """Rounded to the nearest bfloat16, ties to even; infinities stay."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.where(np.isfinite(values), rounded & np.uint32(0xFFFF0000), bits).view(np.float32)
