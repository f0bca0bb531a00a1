"""Fused targets in a batch of 4 x 2048, V = 32,000, k = 10: size, the time to build it, and the loss by gather."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.row import BenchRow, by_turns, spelled
from fusion.train.batching import time_collation
from fusion.train.objective import Teacher, position_losses

_POSITIONS, _VOCABULARY, _K = 512, 32_000, 10


def rows() -> Iterator[BenchRow]:
    """The batch's bars and the loss's."""
    size, seconds = time_collation(rows=4, length=2048, vocabulary=_VOCABULARY, k=_K)
    yield BenchRow(
        what="fused targets in a batch of 4 x 2048, k=10: size",
        measured=f"{size / 1e6:.2f} MB",
        bar="under 2 MB",
        reached=size < 2e6,
    )
    yield BenchRow(
        what="fused targets in a batch of 4 x 2048, k=10: building it",
        measured=spelled(seconds),
        bar="under 20 ms",
        reached=seconds < 0.020,
    )
    yield _loss()


def _loss() -> BenchRow:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_POSITIONS, _VOCABULARY, generator=generator) * 3
    gold = torch.randint(_VOCABULARY, (_POSITIONS,), generator=generator)
    ids = torch.stack([torch.randperm(_VOCABULARY, generator=generator)[:_K] for _ in range(_POSITIONS)])
    log_probs = torch.log_softmax(torch.randn(_POSITIONS, _K + 1, generator=generator), dim=-1)
    teacher = Teacher(ids=ids, log_probs=log_probs[:, :_K], tail=log_probs[:, _K])

    def gathered() -> torch.Tensor:
        return position_losses(logits, gold, teacher)[1]

    def dense() -> torch.Tensor:
        target = torch.zeros_like(logits).scatter_(1, ids, torch.softmax(log_probs[:, :_K], dim=-1))
        return -(target * torch.log_softmax(logits, dim=-1)).sum(-1)

    expected = dense()
    difference = float(((gathered() - expected) / expected).abs().max())
    by_gather, by_dense = by_turns(gathered, dense, repeats=5)
    return BenchRow(
        what=f"fusion loss by gather, {_POSITIONS} positions, V={_VOCABULARY:,}, beside the dense loss",
        measured=f"within {difference:.1e} of it, {by_dense / by_gather:.1f} times faster",
        bar="within 1e-5 of it, relative",
        reached=difference <= 1e-5,
    )
