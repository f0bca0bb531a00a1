"""Cross-entropy from the teacher to the student, the papers' objective.

L_fusion = -sum_v p_v log q_v
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusion.train.objectives.objective import Tail, Teacher

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """p are the teacher's kept entries, q the student's; `fusion.train.objectives.outcomes` says over what."""

    temperature: float = 1.0
    """Of the teacher's distribution; the student's is never changed."""
    tail: Tail = "renormalise"
    """What becomes of the mass in no kept entry: spread over those, or an outcome of its own."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: expected more than 0")

    def __call__(
        self, logits: Float32[Tensor, "N V"], normaliser: Float32[Tensor, " N"], teacher: Teacher
    ) -> Float32[Tensor, " N"]:
        """The loss of each position [N] in nats; 0 where the teacher has no entry."""
        from fusion.train.objectives.outcomes import outcomes

        both = outcomes(logits, normaliser, teacher, temperature=self.temperature, tail=self.tail)
        return -(both.probs * both.student_log_probs).sum(-1)
