"""The two terms of the training loss at every labelled position: from the label, and from the teacher.

    L = lm_weight * L_SFT + (1 - lm_weight) * L_fusion                         (FuseChat, arXiv 2402.16107, eq. 5)

Everything is fp32 and per position; weighting and averaging over positions is the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusion.train.objectives.objective import Objective, Teacher

if TYPE_CHECKING:
    from jaxtyping import Float32, Int


def position_losses(
    logits: Float32[Tensor, "N V"],
    gold: Int[Tensor, " N"],
    teacher: Teacher | None,
    *,
    objective: Objective,
    label_smoothing: float = 0.0,
) -> tuple[Float32[Tensor, " N"], Float32[Tensor, " N"]]:
    """SFT and fusion losses per position, each [N], in nats; without a teacher the second is the first.

    `logits` [N, V] are fp32 and predict `gold` [N].  At a position where the teacher says nothing (no entry) the fusion
    loss is the gold token's, as if the teacher were a one-hot label.  Label smoothing applies to the SFT term alone.
    """
    normaliser = torch.logsumexp(logits, dim=-1)
    nll = normaliser - logits.gather(-1, gold[:, None]).squeeze(-1)
    sft = nll
    if label_smoothing:
        sft = (1 - label_smoothing) * nll + label_smoothing * (normaliser - logits.mean(-1))
    if teacher is None:
        return sft, sft
    silent = (teacher.ids < 0).all(-1)
    return sft, torch.where(silent, nll, objective(logits, normaliser, teacher))
