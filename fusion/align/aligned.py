"""Aligned rows on disk: shards of whole conversations, read one shard at a time.

`aligned-00000.safetensors` holds the rows of one shard end to end, `index.json`, written last, the list of them.
Log-probabilities are fp16 (as the representations they come from), ids uint16 where the pivot's vocabulary allows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import NO_TOKEN, TopK
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt8

_NO_TOKEN_16 = 0xFFFF


@dataclass(frozen=True, kw_only=True)
class AlignedRow:
    """One conversation: the source's distributions at the pivot's N labelled positions, in pivot ids."""

    conversation_id: str
    top: TopK
    kind: UInt8[NDArray[np.uint8], " N"]  # EMPTY, TRANSFERRED or ONE_HOT (fusion.align.matches)
    source_position: Int32[NDArray[np.int32], " N"]  # -1 unless transferred
    nll: float  # in nats, the source's own on this conversation, over its own tokens
    tokens: int  # the source's own
    bytes: int  # of text that they cover


def write_shard(path: Path, rows: Sequence[AlignedRow]) -> None:
    """Write whole conversations into one file; it is there complete or not at all."""
    from safetensors.numpy import save_file

    ids = np.concatenate([row.top.ids for row in rows])
    arrays: dict[str, NDArray[np.generic]] = {
        "ids": _narrow(ids),
        "log_probs": np.concatenate([row.top.log_probs for row in rows]).astype(np.float16),
        "tail": np.concatenate([row.top.tail for row in rows]).astype(np.float32),
        "kind": np.concatenate([row.kind for row in rows]).astype(np.uint8),
        "source_position": np.concatenate([row.source_position for row in rows]).astype(np.int32),
        "offset": np.cumsum([0, *(len(row.kind) for row in rows)]).astype(np.int64),
        "nll": np.array([row.nll for row in rows], np.float64),
        "tokens": np.array([row.tokens for row in rows], np.int64),
        "bytes": np.array([row.bytes for row in rows], np.int64),
    }
    partial = path.with_name("." + path.name)
    save_file(arrays, partial, metadata={"conversation_ids": json.dumps([row.conversation_id for row in rows])})
    partial.rename(path)


def read_shard(path: Path) -> list[AlignedRow]:
    """The rows of one file.  Raises Refusal when it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stream:
            names = json.loads(stream.metadata()["conversation_ids"])
            arrays = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise Refusal(f"{path} is not a shard of aligned rows ({error}): delete it and run the stage again") from error
    offset = arrays["offset"]
    ids = arrays["ids"].astype(np.int32)
    if arrays["ids"].dtype == np.uint16:
        ids[arrays["ids"] == _NO_TOKEN_16] = NO_TOKEN
    rows = []
    for index, name in enumerate(names):
        here = slice(int(offset[index]), int(offset[index + 1]))
        rows.append(
            AlignedRow(
                conversation_id=name,
                top=TopK(
                    ids=ids[here],
                    log_probs=arrays["log_probs"][here].astype(np.float32),
                    tail=arrays["tail"][here],
                ),
                kind=arrays["kind"][here],
                source_position=arrays["source_position"][here],
                nll=float(arrays["nll"][index]),
                tokens=int(arrays["tokens"][index]),
                bytes=int(arrays["bytes"][index]),
            )
        )
    return rows


def write_index(directory: Path, shards: Sequence[tuple[str, int]]) -> None:
    """List the shards, (file name, rows) in order; a directory with an index is complete."""
    listed = {"format": "aligned-1", "shards": [{"file": name, "rows": rows} for name, rows in shards]}
    partial = directory / ".index.json"
    partial.write_text(json.dumps(listed, indent=1) + "\n")
    partial.rename(directory / "index.json")


def open_aligned(path: Path) -> Sequence[AlignedRow]:
    """The aligned rows in `path`, in the pivot's order.  Raises Refusal when there is no complete set."""
    try:
        index = json.loads((path / "index.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise Refusal(f"{path} holds no aligned rows ({error}): run the align stage again") from error
    return _AlignedRows(path, [(shard["file"], int(shard["rows"])) for shard in index["shards"]])


class _AlignedRows(Sequence[AlignedRow]):
    def __init__(self, directory: Path, shards: Sequence[tuple[str, int]]) -> None:
        self._files = [directory / name for name, _ in shards]
        self._first = np.cumsum([0, *(rows for _, rows in shards)])
        self._shard = lru_cache(maxsize=2)(lambda number: read_shard(self._files[number]))

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, index: int) -> AlignedRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AlignedRow]: ...
    def __getitem__(self, index: int | slice) -> AlignedRow | Sequence[AlignedRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        return self._shard(shard)[index - int(self._first[shard])]


def _narrow(ids: NDArray[np.int32]) -> NDArray[np.int32] | NDArray[np.uint16]:
    if ids.size and ids.max() >= _NO_TOKEN_16:
        return ids
    return np.where(ids == NO_TOKEN, _NO_TOKEN_16, ids).astype(np.uint16)
