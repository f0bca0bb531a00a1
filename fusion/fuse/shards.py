"""Fused targets on disk: safetensors shards of whole conversations, and `index.json`, which is written last.

A shard holds its conversations' labelled positions one after another: label_ids int32 [P], ids [P, K] (uint16 where
every id fits, else int32; the type's largest value, or -1, is an unused slot), log_probs and tail float16, taught_by
int8.  Reading is lazy and by slices, so a training process holds one conversation's targets at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse.candidate import Fused, widened

INDEX = "index.json"
_UNUSED = np.uint16(65535)


@dataclass(frozen=True, kw_only=True)
class FusedRow:
    """One conversation's targets: the pivot's labelled tokens [L], what to teach at each, and who teaches it."""

    conversation_id: str
    label_ids: NDArray[np.int32]
    top: TopK
    taught_by: NDArray[np.int8]


class FusedRows:
    """Fused targets by conversation id, read when asked for."""

    def __init__(self, path: Path) -> None:
        index = json.loads((path / INDEX).read_text())
        self.teachers: tuple[str, ...] = tuple(index["teachers"])
        self._path = path
        self._place: dict[str, tuple[str, int, int]] = {}
        for shard in index["shards"]:
            ends = np.cumsum(shard["lengths"]).tolist()
            for name, start, end in zip(shard["conversations"], [0, *ends], ends, strict=False):
                self._place[name] = (shard["file"], start, end)
        self._open: dict[str, safe_open] = {}

    def __contains__(self, conversation_id: str) -> bool:
        return conversation_id in self._place

    def __len__(self) -> int:
        return len(self._place)

    def __iter__(self) -> Iterator[FusedRow]:
        return (self[name] for name in self._place)

    def __getitem__(self, conversation_id: str) -> FusedRow:
        file, start, end = self._place[conversation_id]
        if file not in self._open:
            self._open[file] = safe_open(self._path / file, framework="numpy")
        shard = self._open[file]

        def part(name: str) -> NDArray[np.generic]:
            rows: NDArray[np.generic]
            if start == end:  # safetensors refuses an empty slice at the end
                rows = shard.get_tensor(name)[:0]
            else:
                rows = shard.get_slice(name)[start:end]
            return rows

        stored = part("ids")
        ids = stored.astype(np.int32)
        if stored.dtype == np.uint16:
            ids[stored == _UNUSED] = NO_TOKEN
        return FusedRow(
            conversation_id=conversation_id,
            label_ids=part("label_ids").astype(np.int32, copy=False),
            top=TopK(ids=ids, log_probs=part("log_probs").astype(np.float32), tail=part("tail").astype(np.float32)),
            taught_by=part("taught_by").astype(np.int8, copy=False),
        )


def open_fused(path: Path) -> FusedRows:
    """The targets a fuse stage wrote into `path`."""
    return FusedRows(path)


class FusedWriter:
    """Writes conversations in the order given; `close` writes the index."""

    def __init__(self, out: Path, *, teachers: Sequence[str], rows_per_shard: int) -> None:
        self._out = out
        self._teachers = list(teachers)
        self._rows_per_shard = rows_per_shard
        self._held: list[tuple[str, NDArray[np.int32], Fused]] = []
        self._shards: list[Mapping[str, object]] = []

    def add(self, conversation_id: str, label_ids: NDArray[np.int32], fused: Fused) -> None:
        """Append one conversation."""
        self._held.append((conversation_id, label_ids, fused))
        if len(self._held) >= self._rows_per_shard:
            self._flush()

    def close(self) -> None:
        """Write the rows still in memory, then the index."""
        self._flush()
        index = {"teachers": self._teachers, "shards": self._shards}
        (self._out / INDEX).write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n")

    def _flush(self) -> None:
        if not self._held:
            return
        width = max(fused.top.ids.shape[1] for _, _, fused in self._held)
        tops = [widened(fused.top, width) for _, _, fused in self._held]
        ids = np.concatenate([top.ids for top in tops])
        if ids.max(initial=0) < _UNUSED:
            ids = np.where(ids == NO_TOKEN, _UNUSED, ids).astype(np.uint16)
        arrays = {
            "label_ids": np.concatenate([labels for _, labels, _ in self._held]).astype(np.int32),
            "ids": ids,
            "log_probs": np.concatenate([top.log_probs for top in tops]).astype(np.float16),
            "tail": np.concatenate([top.tail for top in tops]).astype(np.float16),
            "taught_by": np.concatenate([fused.taught_by for _, _, fused in self._held]),
        }
        name = f"fused-{len(self._shards):05d}.safetensors"
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, self._out / name)
        entry = {
            "file": name,
            "conversations": [name for name, _, _ in self._held],
            "lengths": [len(labels) for _, labels, _ in self._held],
        }
        self._shards.append(entry)
        self._held.clear()
