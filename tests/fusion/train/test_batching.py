"""The order of rows and the form of batches."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.distribution import NO_TOKEN, TopK
from fusion.train.batching import TrainingRow, batch_bytes, collate, packed_starts, schedule, steps_for, time_collation


def row(tokens, positions, teacher=None):
    return TrainingRow(input_ids=np.array(tokens, np.int32), positions=np.array(positions, np.int32), teacher=teacher)


def test_every_label_finds_the_logits_of_the_position_before_it():
    rows = [row([5, 6, 7, 8], [2, 3]), row([9, 4, 3], [1])]
    batch = collate(rows, pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 4, 3, 0]]
    assert batch["places"].tolist() == [1, 2, 4]  # the second row's first position is the fifth
    assert batch["gold"].tolist() == [7, 8, 4]
    assert "teacher_ids" not in batch


def test_packed_conversations_share_rows_and_every_label_is_still_predicted_from_the_token_before_it():
    rows = [row([5, 6, 7], [1, 2]), row([1, 2, 3, 4, 8], [4]), row([9, 4], [1])]
    batch = collate(rows, pad_id=0, packed=True)
    # The longest, of five tokens, fills a row; the others fill one together.
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 8], [5, 6, 7, 9, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]]
    flat = batch["input_ids"].flatten()
    assert batch["gold"].tolist() == [6, 7, 8, 4] == flat[batch["places"] + 1].tolist()
    assert flat[batch["places"]].tolist() == [5, 6, 4, 9]
    assert "position_ids" not in collate(rows, pad_id=0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_packing_loses_no_token_and_needs_few_rows(lengths):
    starts, capacity = packed_starts(lengths), max(lengths)
    taken = sorted((int(start), int(start) + length) for start, length in zip(starts, lengths, strict=True))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(taken))
    assert all(start // capacity == (end - 1) // capacity for start, end in taken)  # none runs over a row's end
    rows = taken[-1][0] // capacity + 1
    # No two rows are half empty: what is in the later one would have gone into the earlier.
    assert rows < 2 * sum(lengths) / capacity + 1


def test_teachers_of_different_width_share_a_batch_and_stay_with_their_labels():
    one = TopK(
        ids=np.array([[3]], np.int32), log_probs=np.zeros((1, 1), np.float32), tail=np.array([-np.inf], np.float32)
    )
    two = TopK(
        ids=np.array([[4, 5], [6, NO_TOKEN]], np.int32),
        log_probs=np.log(np.array([[0.5, 0.25], [0.9, 0.0]], np.float32) + 1e-30),
        tail=np.log(np.array([0.25, 0.1], np.float32)),
    )
    batch = collate([row([1, 3], [1], one), row([1, 4, 6], [1, 2], two)], pad_id=0)
    assert batch["teacher_ids"].tolist() == [[3, NO_TOKEN], [4, 5], [6, NO_TOKEN]]
    assert batch["teacher_log_probs"][0].tolist() == [0.0, -np.inf]
    np.testing.assert_allclose(batch["teacher_tail"][1:].exp(), [0.25, 0.1], rtol=1e-6)


def test_rows_with_and_without_a_teacher_do_not_mix():
    teacher = TopK(ids=np.zeros((1, 1), np.int32), log_probs=np.zeros((1, 1), np.float32), tail=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="1 of 2 rows carry no fused targets"):
        collate([row([1, 2], [1], teacher), row([1, 2], [1])], pad_id=0)


def test_a_full_size_batch_stays_sparse():
    size, _ = time_collation(rows=4, length=2048, vocabulary=32000, k=10, repeats=1)
    assert size < 2_000_000


@given(
    rows=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    steps=st.integers(1, 30),
    group=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_schedule_visits_rows_equally_often(rows, batch_size, steps, group, seed):
    lengths = np.random.default_rng(seed).integers(1, 50, rows)
    plan = schedule(
        lengths, batch_size=batch_size, steps=steps, generator=np.random.default_rng(seed), group_by_length=group
    )
    assert plan.shape == (steps, batch_size)
    visits = np.bincount(plan.reshape(-1), minlength=rows)
    assert visits.max() - visits.min() <= 1
    again = schedule(
        lengths, batch_size=batch_size, steps=steps, generator=np.random.default_rng(seed), group_by_length=group
    )
    assert np.array_equal(plan, again)


def test_every_pass_over_the_rows_is_in_another_order():
    plan = schedule([1] * 12, batch_size=4, steps=15, generator=np.random.default_rng(0))
    passes = plan.reshape(5, 12)  # three steps of four are a pass over twelve rows
    assert all(sorted(one) == list(range(12)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) == 5


def test_grouping_by_length_pads_less():
    lengths = np.random.default_rng(0).integers(1, 100, 640)

    def padded(group):
        plan = schedule(lengths, batch_size=10, steps=64, generator=np.random.default_rng(1), group_by_length=group)
        return lengths[plan].max(1).sum() * 10

    assert padded(True) < 0.7 * padded(False)


def test_the_papers_run_takes_2227_steps():
    assert steps_for(rows=95_000, batch_size=128, epochs=3, max_steps=None) == 2227  # 95,000 * 3 / 128 = 2226.6
    assert steps_for(rows=95_000, batch_size=128, epochs=3, max_steps=10) == 10


def test_batch_bytes_counts_all_tensors():
    assert batch_bytes(collate([row([1, 2], [1])], pad_id=0)) == 2 * 8 + 8 + 8
