"""One batched forward pass over labelled conversations: top-k distributions and cross-entropies of a checkpoint.

The vocabulary projection is computed at labelled positions only, the softmax in fp32 on the device; the released code
moves all positions' logits through fp16 instead and keeps neither the partition function nor the tail.  Conversations
are sorted by length within a shard and padded to the longest of a batch, so a shard's bytes do not depend on which
shards were there before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.conversations.conversation import Conversation
from fusion.conversations.template import LabelledRow, label_rows
from fusion.distribution import NO_TOKEN, TopK
from fusion.represent.checkpoint import load_model, load_tokenizer, vocabulary_size
from fusion.represent.representation import RowRepresentation, ShardedRows, covered_bytes, packed_rows
from fusion.represent.shards import INDEX, shard_path, write_index, write_shard
from fusion.runtime.configure import Refusal, plain

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Positions whose fp32 distributions are held at once: 512 x 152,000 entries are 0.3 GB.
_POSITIONS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class RepresentConfig:
    """How a checkpoint is run over conversations and what is kept."""

    k: int = 10  # entries kept at a position
    batch_tokens: int = 16384  # the most in a batch, padding included
    max_length: int = 2048  # conversations are cut there (tokens)
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the weights; reductions are always fp32
    device_map: str | None = None  # for example "auto", which spreads a model that is larger than one accelerator
    rows_per_shard: int = 1024
    threads: int = 1  # of the CPU

    def __post_init__(self) -> None:
        for name in ("k", "batch_tokens", "rows_per_shard", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.max_length < 2:
            raise ValueError(f"max_length is {self.max_length}: expected at least 2 tokens")


def represent(
    *,
    checkpoint: Path,
    conversations: Sequence[Conversation],
    config: RepresentConfig,
    out: Path,
    device: str | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Mapping[str, object]:
    """Write the representation of `conversations` by the model in `checkpoint` into `out`; returns facts about it.

    `device` defaults to the accelerator when there is one.  Shards that an earlier, killed call with the same arguments
    left in `out` are kept.  `advance(done, total)` is called with the number of conversations done.

    Raises Refusal when the checkpoint cannot be loaded whole, its tokenizer has more ids than its embedding, a
    conversation is longer than its position embeddings, logits are not finite, or the device's memory is too small.
    """
    import torch

    if not conversations:
        raise Refusal("there are no conversations to represent: the set is empty after filtering")
    torch.set_num_threads(config.threads)
    out.mkdir(parents=True, exist_ok=True)
    _same_job(out, checkpoint, conversations, config)
    ranges = [
        range(at, min(at + config.rows_per_shard, len(conversations)))
        for at in range(0, len(conversations), config.rows_per_shard)
    ]
    paths = [shard_path(out, number) for number in range(len(ranges))]
    tokenizer = load_tokenizer(checkpoint)
    model = (
        None
        if all(path.exists() for path in paths)
        else load_model(checkpoint, dtype=config.dtype, device_map=config.device_map, device=device)
    )
    vocabulary = vocabulary_size(checkpoint)
    for path, chosen in zip(paths, ranges, strict=True):
        if not path.exists():
            labelled = label_rows(tokenizer, [conversations[i] for i in chosen], max_length=config.max_length)
            names = [conversations[i].id for i in chosen]
            rows = _rows(model, names, labelled, config, checkpoint, vocabulary)
            write_shard(path, packed_rows(rows, vocabulary=vocabulary))
        if advance is not None:
            advance(chosen.stop, len(conversations))
    sizes = [len(chosen) for chosen in ranges]
    tokens, covered, nll = ShardedRows(out, [path.name for path in paths], sizes).totals()
    if not tokens:
        raise Refusal(
            f"no token of any conversation is labelled within {config.max_length} tokens: raise represent.max_length"
        )
    facts = {
        "conversations": len(conversations),
        "labelled_tokens": tokens,
        "content_bytes": covered,
        "nats_per_token": nll / tokens,
        "bits_per_byte": nll / covered / math.log(2) if covered else None,
        "bytes_per_token": sum(path.stat().st_size for path in paths) / tokens,
    }
    index = {
        "vocabulary": vocabulary,
        "k": min(config.k, vocabulary),
        "shards": [{"file": path.name, "rows": size} for path, size in zip(paths, sizes, strict=True)],
    }
    write_index(out, index)
    return facts


def _same_job(out: Path, checkpoint: Path, conversations: Sequence[Conversation], config: RepresentConfig) -> None:
    """Remove what another job left in `out`; note this one."""
    stamps = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(checkpoint.glob("*")) if p.is_file()]
    digest = hashlib.sha256(json.dumps([stamps, plain(config)]).encode())
    for conversation in conversations:
        digest.update(json.dumps(plain(conversation)).encode())
    note = out / ".job"
    if not note.exists() or note.read_text() != digest.hexdigest():
        for left in [*out.glob("shard-*.safetensors"), *out.glob(INDEX)]:
            left.unlink()
        note.write_text(digest.hexdigest())


# ------------------------------------------------------------------------------------------------ the forward pass
def _rows(
    model: PreTrainedModel,
    names: Sequence[str],
    labelled: Sequence[LabelledRow | None],
    config: RepresentConfig,
    checkpoint: Path,
    vocabulary: int,
) -> list[RowRepresentation]:
    import torch

    found: dict[int, RowRepresentation] = {}
    lengths = [0 if row is None else len(row.input_ids) for row in labelled]
    _check_lengths(model, labelled, lengths, checkpoint, vocabulary)
    for batch in batches(lengths, config.batch_tokens):
        rows = [row for i in batch if (row := labelled[i]) is not None]
        try:
            top, gold = _forward(model, rows, min(config.k, vocabulary))
        except torch.OutOfMemoryError as error:
            raise Refusal(
                f"the device's memory is too small for {config.batch_tokens} tokens of {checkpoint} at once: lower"
                " represent.batch_tokens, or set represent.device_map=auto to spread the model"
            ) from error
        ends = np.cumsum([len(row.positions) for row in rows])
        for i, row, end in zip(batch, rows, ends.tolist(), strict=True):
            part = slice(end - len(row.positions), end)
            if not np.isfinite(gold[part]).all():
                raise Refusal(
                    f"{checkpoint} gives logits that are not finite on conversation '{row.conversation_id}': its"
                    " weights are damaged, or dtype bfloat16 does not suit them; check the checkpoint"
                )
            found[i] = _row(row, top[part], gold[part])
    empty = min(config.k, vocabulary)
    return [found[i] if i in found else _empty_row(name, empty) for i, name in enumerate(names)]


def _row(row: LabelledRow, top: TopK, gold: NDArray[np.float32]) -> RowRepresentation:
    return RowRepresentation(
        conversation_id=row.conversation_id,
        label_ids=row.input_ids[row.positions],
        turn=row.turn,
        start=row.start,
        end=row.end,
        top=top,
        gold_log_prob=gold,
        nll=float(-gold.sum(dtype=np.float64)),
        bytes=covered_bytes(row.turn, row.start, row.end),
    )


def _empty_row(name: str, k: int) -> RowRepresentation:
    none, nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
    top = TopK(ids=np.zeros((0, k), np.int32), log_probs=np.zeros((0, k), np.float32), tail=nothing)
    turn = np.zeros(0, np.int16)
    return RowRepresentation(
        conversation_id=name,
        label_ids=none,
        turn=turn,
        start=none,
        end=none,
        top=top,
        gold_log_prob=nothing,
        nll=0.0,
        bytes=0,
    )


def _check_lengths(
    model: PreTrainedModel,
    labelled: Sequence[LabelledRow | None],
    lengths: Sequence[int],
    checkpoint: Path,
    vocabulary: int,
) -> None:
    largest = max((int(row.input_ids.max()) for row in labelled if row is not None), default=0)
    if largest >= vocabulary:
        raise Refusal(
            f"the tokenizer of {checkpoint} writes id {largest}, its model has {vocabulary} ids: they do not belong"
            " together; copy both from one place"
        )
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and max(lengths) > limit:
        raise Refusal(
            f"a conversation has {max(lengths)} tokens and {checkpoint} sees {limit}: set represent.max_length={limit}"
        )


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of rows of non-zero length, longest first, in groups whose count times longest stays within `budget`.

    A row longer than the budget goes alone.
    """
    batch: list[int] = []
    for index in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _forward(model: PreTrainedModel, rows: Sequence[LabelledRow], k: int) -> tuple[TopK, NDArray[np.float32]]:
    """TopK and gold log-probabilities of all labelled positions of `rows`, one row's after another's."""
    import torch

    longest = max(len(row.input_ids) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.input_ids)] = row.input_ids
        mask[i, : len(row.input_ids)] = 1
    row_of = np.repeat(np.arange(len(rows)), [len(row.positions) for row in rows])
    before = np.concatenate([row.positions for row in rows]).astype(np.int64) - 1
    gold = np.concatenate([row.input_ids[row.positions] for row in rows]).astype(np.int64)
    with torch.inference_mode():
        device = model.get_input_embeddings().weight.device
        where = (torch.from_numpy(row_of), torch.from_numpy(before))
        with _only_at(model, *where):
            logits = model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                use_cache=False,
            ).logits
        if logits.shape[:2] == ids.shape and logits.shape[:2] != (1, len(gold)):  # a head that is no module of its own
            logits = logits[where[0].to(logits.device), where[1].to(logits.device)][None]
        parts = [
            [part.cpu().numpy() for part in _reduced(chunk, label.to(chunk.device), k)]
            for chunk, label in zip(
                logits[0].split(_POSITIONS_AT_ONCE), torch.from_numpy(gold).split(_POSITIONS_AT_ONCE), strict=True
            )
        ]
    top_ids, log_probs, tail, gold_log_prob = (np.concatenate(column) for column in zip(*parts, strict=True))
    top_ids = np.where(np.isneginf(log_probs), NO_TOKEN, top_ids).astype(np.int32)
    return TopK(ids=top_ids, log_probs=log_probs, tail=tail), gold_log_prob


def _reduced(
    logits: torch.Tensor, gold: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of logits [N, V]: the k largest log-probabilities' ids and values, the log mass of the rest, and gold's."""
    log_probs = logits.float().log_softmax(-1)
    values, ids = log_probs.topk(k, dim=-1)
    gold_log_prob = log_probs.gather(-1, gold[:, None])[:, 0]
    # Summing what is left is exact where 1 - sum(top) would cancel to nothing.
    tail = log_probs.scatter(-1, ids, -float("inf")).logsumexp(-1)
    return ids, values, tail, gold_log_prob


@contextlib.contextmanager
def _only_at(model: PreTrainedModel, row_of: torch.Tensor, before: torch.Tensor) -> Iterator[None]:
    """Let the model's output projection see the hidden states [B, T, H] at these places only, as [1, N, H].

    What a model does to logits after the projection (soft caps, scales) is element by element and stays its own.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return

    def pick(_module: object, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = arguments[0]
        return (hidden[row_of.to(hidden.device), before.to(hidden.device)][None], *arguments[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
