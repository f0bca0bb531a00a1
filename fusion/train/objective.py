"""The fusion objective on sparse teacher distributions, without ever building a dense target.

    L = lm_weight * L_SFT + (1 - lm_weight) * L_fusion                         (FuseChat, arXiv 2402.16107, eq. 5)

With student logits z, log q_v = z_v - lse(z), so the cross-entropy against kept entries p_k is
lse(z) * sum_k p_k - sum_k p_k z_k: two gathers.  Everything is fp32 and per position; weighting and averaging over
positions is the caller's.  Axes: N labelled positions, K kept entries, V the model's logit width, which may exceed
the tokenizer's vocabulary (padded embeddings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Sparse next-token distributions of the teacher, as `fusion.distribution.TopK` but tensors.

    ids [N, K] integer, negative for an unused slot; log_probs [N, K] natural, -inf in unused slots; tail [N], the log
    of the mass in no slot.
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor


def position_losses(
    logits: Tensor,
    gold: Tensor,
    teacher: Teacher | None,
    *,
    objective: Literal["ce", "kl"] = "ce",
    temperature: float = 1.0,
    tail: Literal["renormalise", "bucket"] = "renormalise",
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
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
    fusion = fusion_loss(logits, normaliser, teacher, objective=objective, temperature=temperature, tail=tail)
    silent = (teacher.ids < 0).all(-1)
    return sft, torch.where(silent, nll, fusion)


def fusion_loss(
    logits: Tensor,
    normaliser: Tensor,
    teacher: Teacher,
    *,
    objective: Literal["ce", "kl"],
    temperature: float,
    tail: Literal["renormalise", "bucket"],
) -> Tensor:
    """Cross-entropy or KL from the tempered teacher to the student, per position [N]; 0 where there is no entry.

    `normaliser` [N] is logsumexp of `logits` [N, V].  `renormalise` (the papers') spreads the lost mass over the kept
    entries: p = softmax over kept of log p / temperature.  `bucket` keeps the tail as one more outcome and compares it
    with the mass the student gives to all tokens not kept; tempering then treats it as one outcome.
    """
    kept = teacher.ids >= 0
    silent = ~kept.any(-1)
    ids = teacher.ids.clamp(min=0).long()
    outcomes = teacher.log_probs.float() / temperature
    outcomes = outcomes.masked_fill(~kept, -torch.inf)
    student = logits.gather(-1, ids) - normaliser[:, None]
    if tail == "bucket":
        # Unused slots point at token 0, which must not be removed on their account: they repeat the first kept id.
        first = ids.gather(-1, kept.int().argmax(-1, keepdim=True))
        rest = logits.scatter(-1, torch.where(kept, ids, first), -torch.inf).logsumexp(-1) - normaliser
        outcomes = torch.cat([outcomes, (teacher.tail.float() / temperature)[:, None]], dim=-1)
        student = torch.cat([student, rest[:, None]], dim=-1)
    outcomes = torch.where(silent[:, None], torch.zeros_like(outcomes), outcomes)
    log_teacher = torch.log_softmax(outcomes, dim=-1)
    weight = log_teacher.exp()
    used = (weight > 0) & ~silent[:, None]
    weight = torch.where(used, weight, 0.0)
    # -inf times zero is not a number: both factors are replaced where the teacher gives no mass.
    loss = -(weight * torch.where(used, student, 0.0)).sum(-1)
    if objective == "kl":
        loss = loss + (weight * torch.where(used, log_teacher, 0.0)).sum(-1)
    return loss
