"""What a distillation objective is given and what it gives back; importing this needs no torch.

Axes: N labelled positions, K kept entries, V the width of the student's logits, which may exceed the tokenizer's
vocabulary (padded embeddings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jaxtyping import Float32, Int
    from torch import Tensor

# What becomes of the teacher's mass in no kept entry: spread over those, or one more outcome.
Tail = Literal["renormalise", "bucket"]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Sparse next-token distributions of the teacher, as `fusion.distribution.TopK` but tensors."""

    ids: Int[Tensor, "N K"]
    """Negative for an unused slot."""
    log_probs: Float32[Tensor, "N K"]
    """In nats, -inf in unused slots."""
    tail: Float32[Tensor, " N"]
    """The log of the mass in no slot."""

    def __getitem__(self, rows: slice) -> Teacher:
        return Teacher(ids=self.ids[rows], log_probs=self.log_probs[rows], tail=self.tail[rows])


@runtime_checkable
class Objective(Protocol):
    """A pure function of labelled positions, each by itself: it is called with a few of a batch at a time."""

    def __call__(
        self, logits: Float32[Tensor, "N V"], normaliser: Float32[Tensor, " N"], teacher: Teacher
    ) -> Float32[Tensor, " N"]:
        """The fusion loss of each position [N] in nats, fp32; 0 where the teacher has no entry.

        `logits` [N, V] are the student's, fp32, and `normaliser` [N] is their logsumexp.
        """
