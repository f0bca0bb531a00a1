"""The shuffled control: a source's confidence stays, its alternatives go."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse.candidate import LABEL, Fused, gold_log_prob
from fusion.fuse.shards import FusedWriter, open_fused
from fusion.fuse.shuffle import shuffle, shuffled_ids
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import file_digest

VOCABULARY, K, LENGTH = 40, 6, 300


def entropy(top: TopK) -> np.ndarray:
    """Nats per position over the kept ids and the tail as one outcome."""
    outcomes = np.concatenate([top.log_probs, top.tail[:, None]], axis=1).astype(np.float64)
    p = np.exp(outcomes)
    return -(p * np.where(p > 0, outcomes, 0.0)).sum(1)


@pytest.fixture
def fused(tmp_path):
    """Two conversations taught by label, pivot and two sources; the gold token is kept in about half the positions."""
    generator = np.random.default_rng(7)
    writer = FusedWriter(tmp_path / "fused", teachers=["pivot", "a", "b"], rows_per_shard=1)
    (tmp_path / "fused").mkdir()
    for name in ("x", "y"):
        p = generator.dirichlet(np.ones(K + 1), LENGTH)
        ids = np.stack([generator.choice(VOCABULARY, K, replace=False) for _ in range(LENGTH)]).astype(np.int32)
        log_probs = np.log(p[:, :K])
        ids[::5, -1], log_probs[::5, -1] = NO_TOKEN, -np.inf
        tail = np.log1p(-np.exp(log_probs).sum(1))
        gold = np.where(generator.random(LENGTH) < 0.5, ids[:, 1], generator.integers(0, VOCABULARY, LENGTH))
        top = TopK(ids=ids, log_probs=log_probs.astype(np.float32), tail=tail.astype(np.float32))
        taught_by = generator.integers(LABEL, 3, LENGTH).astype(np.int8)
        writer.add(name, gold.astype(np.int32), Fused(top=top, taught_by=taught_by))
    writer.close()
    return tmp_path / "fused"


def shuffled(fused, out, seed=0):
    out.mkdir()
    facts = shuffle(fused=fused, vocabulary=VOCABULARY, seed=seed, out=out)
    return open_fused(out), facts


def test_entropy_and_the_gold_tokens_probability_are_those_of_the_real_target(fused, tmp_path):
    found, _ = shuffled(fused, tmp_path / "out")
    for real, row in zip(open_fused(fused), found, strict=True):
        np.testing.assert_array_equal(entropy(row.top), entropy(real.top))
        np.testing.assert_array_equal(gold_log_prob(row.top, row.label_ids), gold_log_prob(real.top, real.label_ids))
        np.testing.assert_array_equal(row.top.tail, real.top.tail)
        np.testing.assert_allclose(np.exp(row.top.log_probs).sum(1) + np.exp(row.top.tail), 1, atol=2e-3)  # float16


def test_alternatives_of_sources_are_unnamed_tokens_each_once_and_all_else_stays(fused, tmp_path):
    found, _ = shuffled(fused, tmp_path / "out")
    for real, row in zip(open_fused(fused), found, strict=True):
        by_source = row.taught_by > 0
        np.testing.assert_array_equal(row.taught_by, real.taught_by)
        np.testing.assert_array_equal(row.label_ids, real.label_ids)
        np.testing.assert_array_equal(row.top.ids[~by_source], real.top.ids[~by_source])
        for ids, before, gold in zip(row.top.ids, real.top.ids, real.label_ids, strict=True):
            used = ids[ids != NO_TOKEN]
            assert len(set(used)) == len(used)
            assert used.max() < VOCABULARY
            assert (gold in used) == (gold in before)
        of_sources = (row.top.ids[by_source], real.top.ids[by_source], real.label_ids[by_source])
        for ids, before, gold in zip(*of_sources, strict=True):
            assert set(ids) & set(before) <= {gold, NO_TOKEN}  # nothing that the source named is named again


def test_the_facts_are_sums_over_the_written_targets(fused, tmp_path):
    found, facts = shuffled(fused, tmp_path / "out")
    moved = []
    for row in found:
        for position in np.flatnonzero(row.taught_by > 0):
            pairs = zip(row.top.ids[position], row.top.log_probs[position], strict=True)
            gold = row.label_ids[position]
            moved.append(sum(math.exp(p) for token, p in pairs if token not in (NO_TOKEN, gold)))
    assert facts == {
        "conversations": 2,
        "positions": 2 * LENGTH,
        "taught": len(moved),
        "removed": pytest.approx(sum(moved) / len(moved), abs=1e-6),
        "removed_of_all": pytest.approx(sum(moved) / (2 * LENGTH), abs=1e-6),
        "removed_most": pytest.approx(sum(p > 0.5 for p in moved) / len(moved), abs=1e-6),
    }


def test_a_source_that_agrees_with_the_labels_leaves_nothing_to_remove(tmp_path):
    (tmp_path / "fused").mkdir()
    writer = FusedWriter(tmp_path / "fused", teachers=["pivot", "a"], rows_per_shard=1)
    # Sure of the label; half on the label, .4 on another and .1 lost; all on another than the label; the pivot.
    ids = np.array([[5, NO_TOKEN], [5, 6], [6, NO_TOKEN], [6, 7]], np.int32)
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[1, 0], [0.5, 0.4], [1, 0], [0.5, 0.5]], np.float32))
        tail = np.log(np.array([0, 0.1, 0, 0], np.float32))
    top = TopK(ids=ids, log_probs=log_probs, tail=tail)
    writer.add("x", np.full(4, 5, np.int32), Fused(top=top, taught_by=np.array([1, 1, 1, 0], np.int8)))
    writer.close()
    _, facts = shuffled(tmp_path / "fused", tmp_path / "out")
    assert (facts["positions"], facts["taught"]) == (4, 3)
    assert facts["removed"] == pytest.approx((0 + 0.4 + 1) / 3, abs=1e-3)  # float16
    assert facts["removed_of_all"] == pytest.approx((0 + 0.4 + 1) / 4, abs=1e-3)
    assert facts["removed_most"] == pytest.approx(1 / 3, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 6), spare=st.integers(0, 30), length=st.integers(0, 5))
def test_ids_are_drawn_from_what_the_row_and_the_label_leave(seed, k, spare, length):
    generator = np.random.default_rng(seed)
    vocabulary = 2 * k + 1 + spare
    ids = np.array([generator.choice(vocabulary, k, replace=False) for _ in range(length)], np.int32).reshape(-1, k)
    ids[generator.random(ids.shape) < 0.2] = NO_TOKEN
    gold = generator.integers(0, vocabulary, length, dtype=np.int32)
    drawn = shuffled_ids(ids, gold, vocabulary=vocabulary, generator=generator)
    for new, old, label in zip(drawn, ids, gold, strict=True):
        stays = (old == label) | (old == NO_TOKEN)
        assert (new[stays] == old[stays]).all()
        moved = new[~stays].tolist()
        assert len(set(moved)) == len(moved)
        assert not set(moved) & {*old.tolist(), label}
        assert all(0 <= token < vocabulary for token in moved)


def test_every_token_that_may_be_drawn_is_drawn_equally_often():
    gold = np.full(4000, 3, np.int32)
    ids = np.tile(np.arange(4, 8, dtype=np.int32), (4000, 1))
    drawn = shuffled_ids(ids, gold, vocabulary=13, generator=np.random.default_rng(0))
    counts = np.bincount(drawn.reshape(-1), minlength=13)
    assert counts[3:8].sum() == 0
    # 4 of 8 tokens at each of 4000 positions: 2000 each, deviation 32.
    assert np.abs(counts[counts > 0] - 2000).max() < 4 * 32


def test_one_seed_gives_one_file_and_another_seed_another(fused, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        shuffled(fused, tmp_path / name, seed=seed)
    one, same, other = (file_digest(tmp_path / n / "fused-00000.safetensors") for n in ("one", "same", "other"))
    assert one == same != other


def test_too_small_a_vocabulary_is_refused(fused, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(Refusal, match="12 ids is too small to shuffle 6"):
        shuffle(fused=fused, vocabulary=12, seed=0, out=tmp_path / "out")
