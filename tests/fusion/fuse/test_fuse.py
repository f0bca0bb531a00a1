"""The fuse stage on shards written as the stages before it write them."""

import json

import numpy as np
import pytest

from fusion.align.aligned import AlignedRow, write_index, write_shard
from fusion.align.matches import EMPTY, ONE_HOT, TRANSFERRED
from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse.average_ce import AverageCE
from fusion.fuse.fuse import fuse
from fusion.fuse.min_ce import MinCE
from fusion.fuse.oracle import Oracle
from fusion.fuse.shards import open_fused
from fusion.represent import shards as represented
from fusion.represent.representation import RowRepresentation, packed_rows
from fusion.runtime.configure import Refusal

LENGTHS = {"a": 3, "b": 0, "c": 2}
K = 4


def distributions(generator, length, vocabulary):
    p = generator.dirichlet(np.ones(K + 1), length).astype(np.float32)
    ids = [generator.choice(vocabulary, K, replace=False) for _ in range(length)]
    return TopK(ids=np.array(ids, np.int32).reshape(length, K), log_probs=np.log(p[:, :K]), tail=np.log(p[:, K]))


def write_pivot(path, vocabulary):
    generator = np.random.default_rng(0)
    rows = []
    for name, length in LENGTHS.items():
        rows.append(
            RowRepresentation(
                conversation_id=name,
                label_ids=generator.integers(0, vocabulary, length, dtype=np.int32),
                turn=np.zeros(length, np.int16),
                start=np.arange(length, dtype=np.int32),
                end=np.arange(1, length + 1, dtype=np.int32),
                top=distributions(generator, length, vocabulary),
                gold_log_prob=np.full(length, -1.0, np.float32),
                nll=1.0 * length,
                bytes=length,
            )
        )
    path.mkdir()
    file = represented.shard_path(path, 0)
    represented.write_shard(file, packed_rows(rows, vocabulary=vocabulary))
    index = {"vocabulary": vocabulary, "k": K, "checkpoint": {}, "shards": [{"file": file.name, "rows": len(rows)}]}
    represented.write_index(path, index)
    return rows


def write_source(path, *, nll, vocabulary=50, names=LENGTHS):
    generator = np.random.default_rng(1)
    rows = []
    for name in names:
        length = LENGTHS[name]
        top = distributions(generator, length, vocabulary)
        kind = np.array([TRANSFERRED, ONE_HOT, EMPTY][:length], np.uint8)
        top.ids[kind == ONE_HOT, 0], top.ids[kind == ONE_HOT, 1:] = 9, NO_TOKEN
        top.log_probs[kind == ONE_HOT, 0], top.log_probs[kind == ONE_HOT, 1:] = 0, -np.inf
        top.tail[kind == ONE_HOT] = -np.inf
        top.ids[kind == EMPTY], top.log_probs[kind == EMPTY], top.tail[kind == EMPTY] = NO_TOKEN, -np.inf, 0
        position = np.where(kind == TRANSFERRED, np.arange(length), -1).astype(np.int32)
        rows.append(
            AlignedRow(
                conversation_id=name,
                top=top,
                kind=kind,
                source_position=position,
                nll=nll * length,
                tokens=length,
                bytes=length,
            )
        )
    path.mkdir()
    write_shard(path / "aligned-00000.safetensors", rows)
    write_index(path, [("aligned-00000.safetensors", len(rows))])
    return rows


@pytest.mark.parametrize("vocabulary", [50, 65535, 128256])
def test_fused_targets_read_back_as_the_rule_gave_them(tmp_path, vocabulary):
    pivot = write_pivot(tmp_path / "pivot", vocabulary)
    source = write_source(tmp_path / "source", nll=0.5)
    (tmp_path / "fused").mkdir()
    facts = fuse(
        pivot=tmp_path / "pivot",
        aligned={"letters": tmp_path / "source"},
        rule=MinCE(),
        out=tmp_path / "fused",
        rows_per_shard=2,
    )
    fused = open_fused(tmp_path / "fused")
    assert [row.conversation_id for row in fused] == ["a", "b", "c"]
    assert fused.teachers == ("pivot", "letters")
    assert len(json.loads((tmp_path / "fused" / "index.json").read_text())["shards"]) == 2
    row = fused["a"]
    assert row.taught_by.tolist() == [1, -1, 0]
    assert np.array_equal(row.label_ids, pivot[0].label_ids)
    assert np.array_equal(row.top.ids[0], source[0].top.ids[0])
    assert row.top.ids[1].tolist() == [9, NO_TOKEN, NO_TOKEN, NO_TOKEN]
    assert np.array_equal(row.top.ids[2], pivot[0].top.ids[2])
    mass = np.exp(row.top.log_probs).sum(1) + np.exp(row.top.tail)
    np.testing.assert_allclose(mass, 1, atol=2e-3)  # fp16 log-probabilities
    assert len(fused["b"].label_ids) == 0 and "d" not in fused
    # Five positions: a = source, label, pivot (nothing said); c = source, label.
    assert facts["taught_by"] == {"label": 0.4, "pivot": 0.2, "letters": 0.4}
    assert facts["cross_entropy"]["pivot"] == {"per_token": 1.0, "per_byte": 1.0}
    assert facts["cross_entropy"]["letters"] == {"per_token": 0.5, "per_byte": 0.5}


def test_several_sources_are_fused_at_once(tmp_path):
    write_pivot(tmp_path / "pivot", 50)
    write_source(tmp_path / "one", nll=0.9)
    write_source(tmp_path / "two", nll=0.8)
    for rule, best in ((MinCE(), 2), (AverageCE(weighting="softmax", temperature=0.01), 2)):
        out = tmp_path / type(rule).__name__
        out.mkdir()
        aligned = {"one": tmp_path / "one", "two": tmp_path / "two"}
        fuse(pivot=tmp_path / "pivot", aligned=aligned, rule=rule, out=out)
        assert open_fused(out)["a"].taught_by[0] == best


def test_a_rule_that_chooses_by_domain_is_told_each_conversations(tmp_path):
    write_pivot(tmp_path / "pivot", 50)
    write_source(tmp_path / "one", nll=9.0)
    write_source(tmp_path / "two", nll=9.0)
    fuse(
        pivot=tmp_path / "pivot",
        aligned={"one": tmp_path / "one", "two": tmp_path / "two"},
        rule=Oracle(teachers={"sums": "two"}),
        out=tmp_path,
        domains={"a": "sums", "b": "words", "c": "words"},
    )
    fused = open_fused(tmp_path)
    assert fused["a"].taught_by.tolist() == [2, -1, 0]  # transferred, the gold token alone, nothing
    assert fused["c"].taught_by.tolist() == [0, 0]


def test_the_same_fusion_gives_the_same_bytes(tmp_path):
    write_pivot(tmp_path / "pivot", 50)
    write_source(tmp_path / "source", nll=0.5)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        fuse(pivot=tmp_path / "pivot", aligned={"s": tmp_path / "source"}, rule=AverageCE(), out=tmp_path / name)
    for file in ("fused-00000.safetensors", "index.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_a_source_of_other_conversations_is_refused(tmp_path):
    write_pivot(tmp_path / "pivot", 50)
    write_source(tmp_path / "fewer", nll=0.5, names=["a", "b"])
    write_source(tmp_path / "shuffled", nll=0.5, names=["c", "b", "a"])
    with pytest.raises(Refusal, match="'x' is aligned on 2 conversations and the pivot represents 3"):
        fuse(pivot=tmp_path / "pivot", aligned={"x": tmp_path / "fewer"}, rule=MinCE(), out=tmp_path)
    with pytest.raises(Refusal, match="has conversation 'c' with 2 positions where the pivot has 'a' with 3"):
        fuse(pivot=tmp_path / "pivot", aligned={"x": tmp_path / "shuffled"}, rule=MinCE(), out=tmp_path)
