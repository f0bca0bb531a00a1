"""What goes into a shard comes out of it, and how many bytes it takes."""

from __future__ import annotations

import pickle
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fusion.distribution import NO_TOKEN, TopK
from fusion.represent.representation import RowRepresentation, ShardedRows, covered_bytes, packed_rows
from fusion.represent.shards import (
    packed_ids,
    packed_spans,
    shard_path,
    to_float16,
    unpacked_ids,
    unpacked_spans,
    write_shard,
)
from fusion.runtime.configure import Refusal


def _row(name: str, length: int, k: int, vocabulary: int, seed: int) -> RowRepresentation:
    draw = np.random.default_rng(seed)
    end = np.cumsum(draw.integers(1, 9, length)).astype(np.int32)
    start = np.concatenate([[0], end[:-1]])[:length].astype(np.int32)
    return RowRepresentation(
        conversation_id=name,
        label_ids=draw.integers(0, vocabulary, length).astype(np.int32),
        turn=np.zeros(length, np.int16),
        start=start,
        end=end,
        top=TopK(
            ids=draw.integers(0, vocabulary, (length, k)).astype(np.int32),
            log_probs=to_float16(-draw.exponential(3, (length, k)).astype(np.float32)).astype(np.float32),
            tail=to_float16(-draw.exponential(3, length).astype(np.float32)).astype(np.float32),
        ),
        gold_log_prob=to_float16(-draw.exponential(3, length).astype(np.float32)).astype(np.float32),
        nll=float(draw.exponential()),
        bytes=int(end[-1]) if length else 0,
    )


@pytest.mark.parametrize("vocabulary", [32_000, 65_535, 65_536, 151_936])
def test_rows_come_back_as_they_went_in(tmp_path: Path, vocabulary: int) -> None:
    rows = [_row(f"zeile-{i}-é", length, 10, vocabulary, i) for i, length in enumerate((7, 0, 300, 1))]
    write_shard(shard_path(tmp_path, 0), packed_rows(rows[:2], vocabulary=vocabulary))
    write_shard(shard_path(tmp_path, 1), packed_rows(rows[2:], vocabulary=vocabulary))
    found = ShardedRows(tmp_path, [shard_path(tmp_path, n).name for n in (0, 1)], [2, 2])
    for copy in (found, pickle.loads(pickle.dumps(found))):
        assert copy.conversation_ids() == [row.conversation_id for row in rows]
        for expected, row in zip(rows, copy, strict=True):
            assert (row.conversation_id, row.nll, row.bytes) == (expected.conversation_id, expected.nll, expected.bytes)
            for name in ("label_ids", "turn", "start", "end", "gold_log_prob"):
                np.testing.assert_array_equal(getattr(row, name), getattr(expected, name))
                assert getattr(row, name).dtype == getattr(expected, name).dtype
            for name in ("ids", "log_probs", "tail"):
                np.testing.assert_array_equal(getattr(row.top, name), getattr(expected.top, name))
    assert [row.conversation_id for row in found[1:3]] == [row.conversation_id for row in rows[1:3]]
    assert found[-1].conversation_id == rows[-1].conversation_id
    with pytest.raises(IndexError):
        found[4]


def test_ten_entries_of_a_large_vocabulary_take_at_most_60_bytes_a_token(tmp_path: Path) -> None:
    rows = [_row(f"{i:016x}", 300, 10, 151_936, i) for i in range(50)]
    write_shard(shard_path(tmp_path, 0), packed_rows(rows, vocabulary=151_936))
    # 11 ids of 3 bytes, 12 halves of 2, one width: 58; 40 bytes a conversation and the header are the rest.
    assert 58 < shard_path(tmp_path, 0).stat().st_size / (300 * 50) <= 60


@given(st.lists(st.integers(-1, 151_935), max_size=20), st.sampled_from([151_936, 2**24 - 1]))
def test_ids_survive_their_planes(ids: list[int], vocabulary: int) -> None:
    columns = packed_ids("x", np.array(ids, np.int32), vocabulary)
    np.testing.assert_array_equal(unpacked_ids(columns["x_low"], columns["x_high"]), np.array(ids, np.int32))


def test_an_unused_slot_and_the_last_id_of_a_16_bit_vocabulary_are_distinguishable() -> None:
    columns = packed_ids("x", np.array([NO_TOKEN, 65_534], np.int32), 65_535)
    assert list(columns) == ["x_low"]
    assert unpacked_ids(columns["x_low"], None).tolist() == [NO_TOKEN, 65_534]
    assert "x_high" in packed_ids("x", np.array([65_535], np.int32), 65_536)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 400)), max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_spans_of_any_turns_gaps_and_widths_survive(conversations: list[list[tuple[int, int, int]]]) -> None:
    rows = []
    for steps in conversations:
        turn, reached, spans = 0, 0, []
        for next_turn, gap, width in steps:
            turn, reached = (turn + 1, 0) if next_turn else (turn, reached)
            spans.append((turn, reached + gap, reached + gap + width))
            reached += gap + width
        columns = np.array(spans, np.int32).reshape(-1, 3).T
        rows.append((columns[0].astype(np.int16), columns[1], columns[2]))
    packed = packed_spans(rows)
    origin = 0
    for turn, start, end in rows:
        first, last = np.searchsorted(packed["break_at"], [origin, origin + len(turn)])
        at = packed["break_at"][first:last].astype(np.int64) - origin
        found = unpacked_spans(packed["width"][origin : origin + len(turn)], at, packed["break_span"][first:last])
        for name, expected, got in zip(("turn", "start", "end"), (turn, start, end), found, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=name)
        origin += len(turn)


def test_finite_values_beyond_half_precision_stay_finite() -> None:
    assert to_float16(np.array([-1e6, -np.inf, -1.5], np.float32)).tolist() == [-65504.0, -np.inf, -1.5]


def test_covered_bytes_count_no_byte_twice() -> None:
    turn = np.array([0, 0, 0, 1], np.int16)
    start, end = np.array([0, 2, 6, 0], np.int32), np.array([3, 4, 8, 5], np.int32)
    assert covered_bytes(turn, start, end) == 4 + 2 + 5  # 0-4 once, 6-8, and the second turn's 0-5


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    shard_path(tmp_path, 0).write_bytes(b"not a shard")
    with pytest.raises(Refusal, match="shard-00000"):
        ShardedRows(tmp_path, [shard_path(tmp_path, 0).name], [1])[0]
