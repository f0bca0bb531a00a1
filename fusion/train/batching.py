"""The order of training rows and the batches made of them; the teacher's distributions stay sparse.

A batch of B conversations padded to its longest row T holds N labelled positions in row order, K kept entries each:

    input_ids [B, T]   right-padded; with causal attention nothing real sees the padding, so no mask is carried
    columns   [U]      the positions whose logits are wanted, in any row: t - 1 for a label at t
    slots     [N]      where each label's logits lie among the B * U computed ones
    gold      [N]      the labels
    teacher_ids [N, K], teacher_log_probs [N, K], teacher_tail [N]     only with fused targets
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.distribution import NO_TOKEN, TopK


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One conversation: its tokens [T], the labelled positions [L], and the teacher's distribution at each, if any."""

    input_ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    teacher: TopK | None = None


def steps_for(*, rows: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run: `max_steps` where given, else `epochs` passes, the last batch filled up."""
    return max_steps if max_steps is not None else max(1, math.ceil(epochs * rows / batch_size))


def schedule(
    lengths: Sequence[int],
    *,
    batch_size: int,
    steps: int,
    generator: np.random.Generator,
    group_by_length: bool = False,
) -> NDArray[np.int64]:
    """Which rows each optimizer step sees, [steps, batch_size]: one shuffled pass after another, cut without a gap.

    It does not depend on how a step is divided over processes and micro-batches.  With `group_by_length`, windows of 32
    steps are sorted by length before they are cut into steps, and the steps of a window are shuffled; ties keep the
    shuffled order.
    """
    rows = len(lengths)
    passes = math.ceil(steps * batch_size / rows)
    order = np.concatenate([generator.permutation(rows) for _ in range(passes)])[: steps * batch_size]
    plan = order.reshape(steps, batch_size)
    if group_by_length:
        tokens = np.asarray(lengths)
        windows = []
        for start in range(0, steps, 32):
            flat = plan[start : start + 32].reshape(-1)
            window = flat[np.argsort(tokens[flat], kind="stable")].reshape(-1, batch_size)
            windows.append(window[generator.permutation(len(window))])
        plan = np.concatenate(windows)
    return plan


def collate(rows: Sequence[TrainingRow], *, pad_id: int) -> dict[str, Tensor]:
    """The batch of `rows`, as the module's docstring lays it out.  All rows carry a teacher, or none does."""
    longest = max(len(row.input_ids) for row in rows)
    input_ids = np.full((len(rows), longest), pad_id, np.int64)
    for place, row in zip(input_ids, rows, strict=True):
        place[: len(row.input_ids)] = row.input_ids
    counts = [len(row.positions) for row in rows]
    owner = np.repeat(np.arange(len(rows)), counts)
    predicted_from = np.concatenate([row.positions for row in rows]).astype(np.int64) - 1
    wanted = np.zeros(longest, bool)
    wanted[predicted_from] = True
    columns = np.flatnonzero(wanted)
    rank = np.cumsum(wanted) - 1
    batch = {
        "input_ids": torch.from_numpy(input_ids),
        "columns": torch.from_numpy(columns),
        "slots": torch.from_numpy(owner * len(columns) + rank[predicted_from]),
        "gold": torch.from_numpy(input_ids[owner, predicted_from + 1]),
    }
    teachers = [row.teacher for row in rows if row.teacher is not None]
    if teachers:
        if len(teachers) < len(rows):
            raise ValueError(
                f"{len(rows) - len(teachers)} of {len(rows)} rows carry no fused targets: expected all or none"
            )
        width = max(teacher.ids.shape[1] for teacher in teachers)
        ids = np.full((len(owner), width), NO_TOKEN, np.int32)
        log_probs = np.full((len(owner), width), -np.inf, np.float32)
        start = 0
        for teacher in teachers:
            end, k = start + len(teacher), teacher.ids.shape[1]
            ids[start:end, :k], log_probs[start:end, :k] = teacher.ids, teacher.log_probs
            start = end
        tail = np.concatenate([teacher.tail for teacher in teachers]).astype(np.float32)
        batch["teacher_ids"] = torch.from_numpy(ids)
        batch["teacher_log_probs"] = torch.from_numpy(log_probs)
        batch["teacher_tail"] = torch.from_numpy(tail)
    return batch


def batch_bytes(batch: dict[str, Tensor]) -> int:
    """Bytes of a batch's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in batch.values())


def time_collation(
    *, rows: int = 4, length: int = 2048, vocabulary: int = 32000, k: int = 10, repeats: int = 20, seed: int = 0
) -> tuple[int, float]:
    """Bytes of a full batch of random fused rows, every position labelled, and the median seconds to build it."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(rows):
        positions = np.arange(1, length, dtype=np.int32)
        log_probs = np.log(generator.dirichlet(np.ones(k + 1), len(positions))).astype(np.float32)
        teacher = TopK(
            ids=generator.integers(0, vocabulary, (len(positions), k), dtype=np.int32),
            log_probs=log_probs[:, :k],
            tail=log_probs[:, k],
        )
        tokens = generator.integers(0, vocabulary, length, dtype=np.int32)
        made.append(TrainingRow(input_ids=tokens, positions=positions, teacher=teacher))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        batch = collate(made, pad_id=0)
        seconds.append(time.perf_counter() - started)
    return batch_bytes(batch), float(np.median(seconds))
