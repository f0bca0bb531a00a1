"""A representation in memory: one conversation's distributions at a time, read from memory-mapped shards."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import TopK
from fusion.represent.shards import (
    PackedColumns,
    Shard,
    packed_ids,
    packed_names,
    packed_spans,
    packed_top,
    read_index,
    to_float16,
    unpacked_ids,
    unpacked_names,
    unpacked_spans,
)


@dataclass(frozen=True, kw_only=True)
class RowRepresentation:
    """What a model predicted at the `L` labelled tokens of one conversation, in its own ids; `turn`, `start` and `end`
    are `LabelledRow`'s.  L is 0 where truncation left no label.
    """

    conversation_id: str
    label_ids: NDArray[np.int32]
    turn: NDArray[np.int16]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    top: TopK
    """At `l` the distribution that predicts `label_ids[l]`."""
    gold_log_prob: NDArray[np.float32]
    """In nats, that of `label_ids[l]`."""
    nll: float
    """The sum of the model's fp32 negative log-probabilities of the labels, in nats, not of the stored float16."""
    bytes: int
    """Of assistant content that labels cover."""


@dataclass(frozen=True, kw_only=True)
class Representation:
    """All conversations' representations in their order, and what `index.json` says of them."""

    rows: Sequence[RowRepresentation]
    vocabulary: int
    k: int
    path: Path


def open_representation(path: Path) -> Representation:
    """Open a directory that `represent` wrote; rows are read when asked for.

    Raises Refusal when it is not finished or a shard is missing or damaged.
    """
    index = read_index(path)
    rows = ShardedRows(path, [entry["file"] for entry in index["shards"]], [entry["rows"] for entry in index["shards"]])
    return Representation(rows=rows, vocabulary=index["vocabulary"], k=index["k"], path=path)


class ShardedRows(Sequence[RowRepresentation]):
    """The rows of some shards; a shard is opened at its first use and stays mapped."""

    def __init__(self, path: Path, files: Sequence[str], rows: Sequence[int]) -> None:
        self._path = path
        self._files = list(files)
        self._begins = [0, *np.cumsum(rows, dtype=np.int64).tolist()]
        self._open: dict[int, _OpenShard] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}}  # a process that gets a copy maps the files itself

    def __len__(self) -> int:
        return int(self._begins[-1])

    @overload
    def __getitem__(self, index: int) -> RowRepresentation: ...
    @overload
    def __getitem__(self, index: slice) -> list[RowRepresentation]: ...
    def __getitem__(self, index: int | slice) -> RowRepresentation | list[RowRepresentation]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        number = bisect_right(self._begins, index) - 1
        return self._shard(number).row(index - self._begins[number])

    def conversation_ids(self) -> list[str]:
        """Every row's id, without reading distributions."""
        return [name for number in range(len(self._files)) for name in self._shard(number).names]

    def totals(self) -> tuple[int, int, float]:
        """Labelled positions, covered bytes and nats of all rows together."""
        shards = [self._shard(number) for number in range(len(self._files))]
        positions = sum(int(shard.ends[-1]) for shard in shards)
        return (
            positions,
            sum(int(shard.bytes.sum()) for shard in shards),
            math.fsum(n for s in shards for n in s.nll.tolist()),
        )

    def _shard(self, number: int) -> _OpenShard:
        if number not in self._open:
            self._open[number] = _OpenShard(self._path / self._files[number])
        return self._open[number]


class _OpenShard:
    def __init__(self, path: Path) -> None:
        self.shard = Shard(path)
        self.names = unpacked_names(self.shard)
        self.ends = np.cumsum(self.shard.whole("positions"), dtype=np.int64)
        self.nll = self.shard.whole("nll")
        self.bytes = self.shard.whole("bytes")
        self._break_at = self.shard.whole("break_at").astype(np.int64)
        self._break_span = self.shard.whole("break_span")

    def row(self, index: int) -> RowRepresentation:
        end = int(self.ends[index])
        begin = int(self.ends[index - 1]) if index else 0
        first, last = np.searchsorted(self._break_at, [begin, end]).tolist()
        turn, start, stop = unpacked_spans(
            self.shard.slice("width", begin, end),
            self._break_at[first:last] - begin,
            self._break_span[first:last],
        )
        return RowRepresentation(
            conversation_id=self.names[index],
            label_ids=self._ids("label", begin, end),
            turn=turn,
            start=start,
            end=stop,
            top=TopK(
                ids=self._ids("ids", begin, end),
                log_probs=self.shard.slice("log_probs", begin, end).astype(np.float32),
                tail=self.shard.slice("tail", begin, end).astype(np.float32),
            ),
            gold_log_prob=self.shard.slice("gold", begin, end).astype(np.float32),
            nll=float(self.nll[index]),
            bytes=int(self.bytes[index]),
        )

    def _ids(self, name: str, begin: int, end: int) -> NDArray[np.int32]:
        high = f"{name}_high"
        return unpacked_ids(
            self.shard.slice(f"{name}_low", begin, end),
            self.shard.slice(high, begin, end) if high in self.shard.columns else None,
        )


def packed_rows(rows: Sequence[RowRepresentation], *, vocabulary: int) -> PackedColumns:
    """The columns of one shard that holds `rows`."""
    top = TopK(
        ids=np.concatenate([row.top.ids for row in rows]),
        log_probs=np.concatenate([row.top.log_probs for row in rows]),
        tail=np.concatenate([row.top.tail for row in rows]),
    )
    return {
        **packed_top(top, vocabulary),
        **packed_ids("label", np.concatenate([row.label_ids for row in rows]), vocabulary),
        "gold": to_float16(np.concatenate([row.gold_log_prob for row in rows])),
        **packed_spans([(row.turn, row.start, row.end) for row in rows]),
        "positions": np.array([len(row.label_ids) for row in rows], np.uint32),
        "bytes": np.array([row.bytes for row in rows], np.uint32),
        "nll": np.array([row.nll for row in rows], np.float64),
        **packed_names([row.conversation_id for row in rows]),
    }


def covered_bytes(turn: NDArray[np.int16], start: NDArray[np.int32], end: NDArray[np.int32]) -> int:
    """Bytes of content that at least one span covers; spans ascend within a turn."""
    total = 0
    for number in np.unique(turn):
        inside = turn == number
        reached = np.maximum.accumulate(end[inside])
        before = np.concatenate([[0], reached[:-1]])
        total += int(np.maximum(end[inside] - np.maximum(start[inside], before), 0).sum())
    return total
