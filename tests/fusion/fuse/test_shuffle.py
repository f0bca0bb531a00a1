"""The shuffled control: a source's confidence stays, its alternatives go."""

import numpy as np
import pytest

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


def test_alternatives_of_sources_are_other_tokens_each_once_and_all_else_stays(fused, tmp_path):
    found, facts = shuffled(fused, tmp_path / "out")
    changed = kept = slots = 0
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
        alternative = (real.top.ids != NO_TOKEN) & (real.top.ids != real.label_ids[:, None]) & by_source[:, None]
        kept += int((row.top.ids == real.top.ids)[alternative].sum())
        slots += int(alternative.sum())
        changed += int(by_source.sum())
    assert facts == {"conversations": 2, "positions": 2 * LENGTH, "shuffled": changed}
    # A draw hits the old id once in V - 1: expected slots / 39, here about 40 with a deviation of about 6.
    assert abs(kept - slots / (VOCABULARY - 1)) < 4 * (slots / (VOCABULARY - 1)) ** 0.5


def test_every_other_token_is_drawn_equally_often():
    gold = np.full(4000, 3, np.int32)
    ids = np.tile(np.arange(10, 14, dtype=np.int32), (4000, 1))
    drawn = shuffled_ids(ids, gold, vocabulary=9, generator=np.random.default_rng(0))
    counts = np.bincount(drawn.reshape(-1), minlength=9)
    assert counts[3] == 0
    # 4 of 8 tokens at each of 4000 positions: 2000 each, deviation 32.
    assert np.abs(counts[counts > 0] - 2000).max() < 4 * 32


def test_one_seed_gives_one_file_and_another_seed_another(fused, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        shuffled(fused, tmp_path / name, seed=seed)
    one, same, other = (file_digest(tmp_path / n / "fused-00000.safetensors") for n in ("one", "same", "other"))
    assert one == same != other


def test_too_small_a_vocabulary_is_refused(fused, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(Refusal, match="11 ids is too small to shuffle 6"):
        shuffle(fused=fused, vocabulary=11, seed=0, out=tmp_path / "out")
