"""Teacher and student over the outcomes that a sparse teacher tells apart, without ever building a dense target.

With student logits z, log q_v = z_v - lse(z), so a loss against kept entries needs no more than a gather of z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusion.train.objectives.objective import Tail, Teacher

if TYPE_CHECKING:
    from jaxtyping import Float32


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Both distributions, each [N, O]; the logarithms are 0 where the teacher gives no mass."""

    probs: Float32[Tensor, "N O"]
    log_probs: Float32[Tensor, "N O"]
    student_log_probs: Float32[Tensor, "N O"]


def outcomes(
    logits: Float32[Tensor, "N V"],
    normaliser: Float32[Tensor, " N"],
    teacher: Teacher,
    *,
    temperature: float,
    tail: Tail,
) -> Outcomes:
    """The tempered teacher and the student over O outcomes; where the teacher has no entry all probabilities are 0.

    `normaliser` [N] is logsumexp of `logits` [N, V].  `renormalise` (the papers') spreads the lost mass over the kept
    entries, O = K: p = softmax over kept of log p / temperature.  `bucket` keeps the tail as one more outcome,
    O = K + 1, beside the mass the student gives to all tokens not kept; tempering then treats it as one outcome.
    """
    kept = teacher.ids >= 0
    silent = ~kept.any(-1)
    ids = teacher.ids.clamp(min=0).long()
    scores = (teacher.log_probs.float() / temperature).masked_fill(~kept, -torch.inf)
    student = logits.gather(-1, ids) - normaliser[:, None]
    if tail == "bucket":
        # Unused slots point at token 0, which must not be removed on their account: they repeat the first kept id.
        first = ids.gather(-1, kept.int().argmax(-1, keepdim=True))
        rest = logits.scatter(-1, torch.where(kept, ids, first), -torch.inf).logsumexp(-1) - normaliser
        scores = torch.cat([scores, (teacher.tail.float() / temperature)[:, None]], dim=-1)
        student = torch.cat([student, rest[:, None]], dim=-1)
    scores = torch.where(silent[:, None], torch.zeros_like(scores), scores)
    log_probs = torch.log_softmax(scores, dim=-1)
    probs = log_probs.exp()
    # -inf times zero is not a number: both factors are replaced where the teacher gives no mass.
    used = (probs > 0) & ~silent[:, None]
    return Outcomes(
        probs=torch.where(used, probs, 0.0),
        log_probs=torch.where(used, log_probs, 0.0),
        student_log_probs=torch.where(used, student, 0.0),
    )
