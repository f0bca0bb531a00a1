"""Representations on disk: safetensors shards of whole conversations in order, and `index.json`, written last.

Columns of `P` labelled positions, one conversation's after another's, `K` slots; 58 bytes a position at K = 10 for
vocabularies beyond 65,535 ids and 47 below, and some 40 bytes a conversation:

    ids_low [P, K] uint16, ids_high [P, K] uint8   an id's lower 16 and upper 8 bits; all ones for an unused slot
    label_low [P], label_high [P]                  the labelled token; no `high` columns for small vocabularies
    log_probs [P, K], tail [P], gold [P]           float16, nats
    width [P] uint8                                bytes of the token's text; a token begins where the one before ended,
    break_at [M] uint32, break_span [M, 3] int32   except at these positions: turn, start, end
    positions [R], bytes [R], nll [R]              per conversation: labelled positions, bytes covered, nats (float64)
    names, name_end [R]                            the conversations' ids, UTF-8

A shard is written under a dotted name and renamed, so one that is there is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import NO_TOKEN, TopK
from fusion.runtime.configure import Refusal

INDEX = "index.json"
_WIDEST = 255
_FLOAT16_MIN = float(np.finfo(np.float16).min)

PackedColumns = Mapping[str, NDArray[np.generic]]


def shard_path(out: Path, number: int) -> Path:
    """Where shard `number` lies."""
    return out / f"shard-{number:05d}.safetensors"


def write_shard(path: Path, columns: Mapping[str, NDArray[np.generic]]) -> None:
    """Write the columns under a dotted name, then rename."""
    from safetensors.numpy import save_file

    draft = path.with_name(f".{path.name}")
    save_file({name: np.ascontiguousarray(column) for name, column in columns.items()}, draft)
    draft.replace(path)


def write_index(out: Path, content: Mapping[str, object]) -> None:
    """Write `index.json`, which says that all shards are there."""
    draft = out / f".{INDEX}"
    draft.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    draft.replace(out / INDEX)


def read_index(path: Path) -> dict[str, Any]:
    """The content of `index.json`.  Raises Refusal when there is none."""
    try:
        content = json.loads((path / INDEX).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise Refusal(f"{path} is no finished representation ({error}): run the represent stage again") from error
    return dict(content)


class Shard:
    """One shard, memory-mapped; columns are read by slices."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            self._file = safe_open(path, framework="numpy")
        except (OSError, SafetensorError) as error:
            raise Refusal(f"{path} cannot be read ({error}): remove its directory and represent again") from error
        self.columns = frozenset(self._file.keys())

    def slice(self, column: str, begin: int, end: int) -> NDArray[Any]:
        """Rows `begin` to `end` of one column."""
        if begin == end:  # safetensors takes no empty slices
            return self.whole(column)[:0]
        part: NDArray[Any] = self._file.get_slice(column)[begin:end]
        return part

    def whole(self, column: str) -> NDArray[Any]:
        """One column."""
        column_: NDArray[Any] = self._file.get_tensor(column)
        return column_


# ------------------------------------------------------------------------------------------------ codecs
def packed_ids(name: str, ids: NDArray[np.int32], vocabulary: int) -> PackedColumns:
    """Ids below `vocabulary`, or NO_TOKEN, as a 16-bit plane and, where that is too narrow, an 8-bit plane."""
    if vocabulary >= 2**24:
        raise ValueError(f"a vocabulary of {vocabulary} ids does not fit 24 bits")
    wide = ids.astype(np.uint32)  # NO_TOKEN becomes all ones
    low = {f"{name}_low": (wide & 0xFFFF).astype(np.uint16)}
    if vocabulary <= 0xFFFF:
        return low
    return {**low, f"{name}_high": (wide >> 16 & 0xFF).astype(np.uint8)}


def unpacked_ids(low: NDArray[np.uint16], high: NDArray[np.uint8] | None) -> NDArray[np.int32]:
    """The inverse of `packed_ids`."""
    ids = low.astype(np.int32)
    unused = 0xFFFF
    if high is not None:
        ids |= high.astype(np.int32) << 16
        unused = 0xFFFFFF
    ids[ids == unused] = NO_TOKEN
    return ids


def packed_top(top: TopK, vocabulary: int) -> PackedColumns:
    """A TopK's columns."""
    return {
        **packed_ids("ids", top.ids, vocabulary),
        "log_probs": to_float16(top.log_probs),
        "tail": to_float16(top.tail),
    }


def to_float16(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Rounded; finite values stay finite."""
    return np.where(np.isneginf(values), values, np.maximum(values, _FLOAT16_MIN)).astype(np.float16)


def packed_spans(rows: Sequence[tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.int32]]]) -> PackedColumns:
    """Turn, start and end of every position of every conversation, as widths and where they do not suffice."""
    widths, breaks_at, break_spans = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint32)], [np.zeros((0, 3), np.int32)]
    origin = 0
    for turn, start, end in rows:
        expected_turn = np.concatenate([[0], turn[:-1]])
        expected_start = np.concatenate([[0], end[:-1]])
        width = end - start
        at = np.flatnonzero((turn != expected_turn) | (start != expected_start) | (width > _WIDEST))[: len(turn)]
        widths.append(np.minimum(width, _WIDEST).astype(np.uint8))
        breaks_at.append((origin + at).astype(np.uint32))
        break_spans.append(np.stack([turn[at].astype(np.int32), start[at], end[at]], axis=1))
        origin += len(turn)
    return {
        "width": np.concatenate(widths),
        "break_at": np.concatenate(breaks_at),
        "break_span": np.concatenate(break_spans),
    }


def unpacked_spans(
    width: NDArray[np.uint8], break_at: NDArray[np.int64], break_span: NDArray[np.int32]
) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.int32]]:
    """Turn, start and end of one conversation's positions; `break_at` counts from its first."""
    ends = np.cumsum(width, dtype=np.int64)
    starts = ends - width
    turns = np.zeros(len(width), np.int64)
    for at, (turn, start, end) in zip(break_at.tolist(), break_span.tolist(), strict=True):
        turns[at:] = turn
        starts[at + 1 :] += end - ends[at]
        ends[at:] += end - ends[at]
        starts[at] = start
    return turns.astype(np.int16), starts.astype(np.int32), ends.astype(np.int32)


def packed_names(names: Sequence[str]) -> PackedColumns:
    """Conversation ids."""
    raw = [name.encode() for name in names]
    return {
        "names": np.frombuffer(b"".join(raw), np.uint8),
        "name_end": np.cumsum([len(name) for name in raw], dtype=np.uint32),
    }


def unpacked_names(shard: Shard) -> list[str]:
    """The inverse of `packed_names`."""
    raw = shard.whole("names").tobytes()
    ends = shard.whole("name_end").tolist()
    return [raw[begin:end].decode() for begin, end in zip([0, *ends], ends, strict=False)]
