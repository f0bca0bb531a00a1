"""The order of training rows and the batches made of them; the teacher's distributions stay sparse.

A batch of B rows padded to its longest T holds N labelled positions, K kept entries each.  A row is a conversation or,
packed, several of them one behind the other:

    input_ids [B, T]   right-padded; with causal attention nothing real sees the padding, so no mask is carried
    position_ids [B, T]   only packed: they count from 0 in every conversation, by which transformers keeps them apart
    places    [N]      where each label is predicted, counted over the B * T positions: t - 1 for a label at t
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


def collate(rows: Sequence[TrainingRow], *, pad_id: int, packed: bool = False) -> dict[str, Tensor]:
    """The batch of `rows`, as the module's docstring lays it out.  All rows carry a teacher, or none does."""
    lengths = [len(row.input_ids) for row in rows]
    longest = max(lengths)
    starts = packed_starts(lengths) if packed else np.arange(len(rows)) * longest
    shape = (int(starts.max()) // longest + 1, longest)
    input_ids = np.full(shape, pad_id, np.int64)
    position_ids = np.zeros(shape, np.int64)
    for start, row in zip(starts, rows, strict=True):
        place = slice(int(start), int(start) + len(row.input_ids))
        input_ids.reshape(-1)[place] = row.input_ids
        position_ids.reshape(-1)[place] = np.arange(len(row.input_ids))
    counts = [len(row.positions) for row in rows]
    owner = np.repeat(np.arange(len(rows)), counts)
    labelled = np.concatenate([row.positions for row in rows]).astype(np.int64) + starts[owner]
    batch = {
        "input_ids": torch.from_numpy(input_ids),
        "places": torch.from_numpy(labelled - 1),
        "gold": torch.from_numpy(input_ids.reshape(-1)[labelled]),
    }
    if packed:
        batch["position_ids"] = torch.from_numpy(position_ids)
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


def packed_starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Where each conversation starts when they share rows of the longest one's length, counted over all rows.

    The longest first, each goes into the first row that has room for it (first-fit decreasing): at most 11/9 of the
    fewest rows possible, and one more (Dosa 2007).
    """
    capacity = max(lengths)
    filled: list[int] = []
    starts = np.zeros(len(lengths), np.int64)
    for index in np.argsort(-np.asarray(lengths), kind="stable"):
        row = next((row for row, used in enumerate(filled) if used + lengths[index] <= capacity), len(filled))
        if row == len(filled):
            filled.append(0)
        starts[index] = row * capacity + filled[row]
        filled[row] += lengths[index]
    return starts


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
