"""The align stage: rows paired by conversation, shards that survive a kill, refusals that leave nothing behind."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fusion.align import EMPTY, TRANSFERRED, AlignConfig, align, method, open_aligned
from fusion.align.carry import carry
from fusion.align.method import PreparedMethod
from fusion.conversations.vocabulary import vocabulary
from fusion.distribution import NO_TOKEN, TopK
from fusion.runtime.configure import Refusal

TEXTS = [["the cat sat"], ["12 + 34 = 46", "naïve 你好"], ["a dog"], ["another sentence"], ["x"]]


@pytest.fixture
def corpus(tokenizers, represented):
    """The same conversations for a pivot and a source, the source's in another order."""
    pivot = [represented(tokenizers["unigram"], turns, name=f"c{i}", seed=i) for i, turns in enumerate(TEXTS)]
    source = [represented(tokenizers["coarse"], turns, name=f"c{i}", seed=9 + i) for i, turns in enumerate(TEXTS)]
    return pivot, source[::-1]


def run(corpus, tokenizers, out, *, scheme="byte_span", pivot="unigram", source="coarse", pivot_ids=None, **settings):
    out.mkdir(exist_ok=True)
    return carry(
        pivot=corpus[0],
        source=corpus[1],
        pivot_tokenizer=tokenizers[pivot],
        source_tokenizer=tokenizers[source],
        pivot_ids=pivot_ids or len(tokenizers[pivot]),
        pivot_end_of_turn=tokenizers[pivot].eos_token_id,
        source_end_of_turn=tokenizers[source].eos_token_id,
        method=method(AlignConfig(scheme=scheme)),
        out=out,
        rows_per_shard=2,
        **settings,
    )


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_rows_come_back_in_the_pivot_s_order_with_the_source_s_own_figures(corpus, tokenizers, tmp_path):
    facts = run(corpus, tokenizers, tmp_path)
    rows = open_aligned(tmp_path)
    pivot, source = corpus[0], corpus[1][::-1]
    assert [row.conversation_id for row in rows] == [row.conversation_id for row in pivot]
    assert facts["rows"] == len(rows) == 5
    assert facts["positions"] == sum(len(row.label_ids) for row in pivot)
    assert facts["transferred"] + facts["one_hot"] + facts["empty"] == facts["positions"]
    assert facts["wrong_position"] == 0 and 0 < facts["kept_mass"] <= 1
    ready = PreparedMethod(
        method(AlignConfig(scheme="byte_span")),
        *(vocabulary(tokenizers[n], end_of_turn=tokenizers[n].eos_token_id) for n in ("unigram", "coarse")),
        list,
    )
    for row, ours, theirs in zip(rows, pivot, source, strict=True):
        assert (row.nll, row.tokens, row.bytes) == (theirs.nll, len(theirs.label_ids), theirs.bytes)
        top, decision = ready.transfer(ours, theirs, theirs.top)
        np.testing.assert_array_equal(row.top.ids, top.ids)
        np.testing.assert_allclose(row.top.log_probs, top.log_probs, rtol=1e-3)
        np.testing.assert_array_equal(row.kind, decision.kind)
        np.testing.assert_array_equal(row.source_position, decision.source_position)
        assert ready.decide(ours, theirs).kind[-1] == TRANSFERRED  # the end of the last turn


def test_an_interrupted_stage_continues_to_the_same_bytes(corpus, tokenizers, tmp_path):
    run(corpus, tokenizers, tmp_path / "whole", scheme="ms")

    class Killed(Exception):
        pass

    def kill_after_one_shard(done, total):
        raise Killed

    with pytest.raises(Killed):
        run(corpus, tokenizers, tmp_path / "resumed", scheme="ms", advance=kill_after_one_shard)
    with pytest.raises(Refusal, match="run the align stage again"):
        open_aligned(tmp_path / "resumed")
    first = tmp_path / "resumed" / "aligned-00000.safetensors"
    written = first.stat().st_mtime_ns
    run(corpus, tokenizers, tmp_path / "resumed", scheme="ms")
    assert first.stat().st_mtime_ns == written
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_equal_tokenizers_skip_alignment_where_the_labels_are_equal(tokenizers, represented, tmp_path):
    own = [represented(tokenizers["fine"], turns, name=f"c{i}", seed=i) for i, turns in enumerate(TEXTS)]
    facts = run((own, own), tokenizers, tmp_path, scheme="mined", pivot="fine", source="fine")
    assert facts["copied_rows"] == 5 and facts["transferred"] == facts["positions"]
    assert not (tmp_path / "vocabulary_map.safetensors").exists()
    for row, given in zip(open_aligned(tmp_path), own, strict=True):
        np.testing.assert_array_equal(row.top.ids, given.top.ids)
        np.testing.assert_array_equal(row.top.log_probs, given.top.log_probs)
        np.testing.assert_array_equal(row.top.tail, given.top.tail)


def says(row, *entries):
    """`row` with these (id, probability) at every position, the rest in the tail."""
    said, n = np.array(entries), len(row.label_ids)
    top = TopK(
        ids=np.tile(said[:, 0].astype(np.int32), (n, 1)),
        log_probs=np.tile(np.log(said[:, 1]).astype(np.float32), (n, 1)),
        tail=np.full(n, np.log(1 - said[:, 1].sum()), np.float32),
    )
    return replace(row, top=top)


@pytest.mark.parametrize(("beyond", "kind"), [(0.15, TRANSFERRED), (0.75, EMPTY)])
def test_ids_of_a_wider_head_of_the_same_tokenizer_are_not_taught(tokenizers, represented, tmp_path, beyond, kind):
    size = len(tokenizers["fine"])  # the pivot's head; the source's has room for more
    ours = [represented(tokenizers["fine"], turns, name=f"c{i}") for i, turns in enumerate(TEXTS)]
    theirs = [says(row, (size + 7, beyond), (5, 0.2)) for row in ours]
    facts = run((ours, theirs), tokenizers, tmp_path, pivot="fine", source="fine")
    assert facts["copied_rows"] == len(TEXTS)
    for row in open_aligned(tmp_path):
        assert (row.kind == kind).all()
        kept = [5] if kind == TRANSFERRED else []
        assert {int(i) for i in row.top.ids.ravel() if i != NO_TOKEN} == set(kept)
        np.testing.assert_allclose(np.exp(row.top.tail), 0.8 if kept else 1.0, rtol=1e-5)


def test_a_pivot_head_with_room_for_more_takes_the_source_s_padding_ids_as_they_are(tokenizers, represented, tmp_path):
    size = len(tokenizers["fine"])
    ours = [represented(tokenizers["fine"], ["the cat"])]
    facts = run(
        (ours, [says(ours[0], (size + 7, 0.6), (5, 0.2))]),
        tokenizers,
        tmp_path,
        pivot="fine",
        source="fine",
        pivot_ids=size + 8,
    )
    assert facts["copied_rows"] == 1 and facts["kept_mass"] == pytest.approx(0.8, abs=1e-3)


def test_ids_the_pivot_s_tokenizer_has_and_its_model_has_not_are_not_taught(tokenizers, represented, tmp_path):
    word = tokenizers["coarse"].convert_tokens_to_ids("Ġthe")
    a = tokenizers["coarse"].convert_tokens_to_ids("a")
    ours = [represented(tokenizers["coarse"], ["the cat"])]
    said = [(tokenizers["fine"].convert_tokens_to_ids(piece), p) for piece, p in (("Ġthe", 0.3), ("a", 0.6))]
    theirs = [says(represented(tokenizers["fine"], ["the cat"]), *said)]
    run((ours, theirs), tokenizers, tmp_path / "whole", pivot="coarse", source="fine")
    run((ours, theirs), tokenizers, tmp_path / "cut", pivot="coarse", source="fine", pivot_ids=word)
    assert a < word
    (whole,), (cut,) = open_aligned(tmp_path / "whole"), open_aligned(tmp_path / "cut")
    assert word in whole.top.ids and word not in cut.top.ids and a in cut.top.ids


def test_equal_tokenizers_with_other_labels_are_aligned(tokenizers, represented, tmp_path):
    own = [represented(tokenizers["fine"], ["the cat"])]
    other = own[0].label_ids.copy()
    other[-1] = tokenizers["fine"].bos_token_id  # another template ends turns with another token
    facts = run((own, [replace(own[0], label_ids=other)]), tokenizers, tmp_path, pivot="fine", source="fine")
    assert facts["copied_rows"] == 0 and facts["transferred"] == facts["positions"]


def test_conversations_that_are_not_the_same_are_refused(corpus, tokenizers, tmp_path):
    pivot, source = corpus
    with pytest.raises(Refusal, match=r"1 are missing from the source \(c4\)"):
        run((pivot, [row for row in source if row.conversation_id != "c4"]), tokenizers, tmp_path)


def test_another_text_under_the_same_id_is_refused(corpus, tokenizers, represented, tmp_path):
    pivot, source = corpus
    other = represented(tokenizers["coarse"], ["the cats sat"], name="c0")
    with pytest.raises(Refusal, match="conversation 'c0': assistant turn 0 has 11 bytes for the pivot and 12"):
        run((pivot, [*source[:-1], other]), tokenizers, tmp_path)


def test_rows_without_a_label_are_carried(corpus, tokenizers, tmp_path):
    pivot, source = corpus
    none = slice(0, 0)

    def emptied(row):
        return replace(
            row,
            label_ids=row.label_ids[none],
            turn=row.turn[none],
            start=row.start[none],
            end=row.end[none],
            top=row.top[none],
        )

    for number, (ours, theirs) in enumerate(
        [([*pivot[:-1], emptied(pivot[-1])], source), (pivot, [emptied(source[0]), *source[1:]])]
    ):
        for scheme in ("em", "mined", "ms", "byte_span"):
            run((ours, theirs), tokenizers, tmp_path / f"{scheme}{number}", scheme=scheme)
            last = open_aligned(tmp_path / f"{scheme}{number}")[-1]
            assert len(last.kind) == len(ours[-1].label_ids) and not (last.kind == TRANSFERRED).any()


def cut(row, labels):
    """The row as a shorter max_length leaves it."""
    kept = slice(0, labels)
    parts = {name: getattr(row, name)[kept] for name in ("label_ids", "turn", "start", "end", "top")}
    return replace(row, **parts)


@pytest.mark.parametrize("scheme", ["byte_span", "em", "ms"])
def test_positions_behind_the_text_that_the_source_read_are_counted(tokenizers, represented, tmp_path, scheme):
    texts = [["the cat sat", "on the mat"], ["naïve 你好"], ["", "x"]]
    pivot = [represented(tokenizers["fine"], turns, name=f"c{i}") for i, turns in enumerate(texts)]
    whole = [represented(tokenizers["coarse"], turns, name=f"c{i}") for i, turns in enumerate(texts)]

    def behind(labels):
        source = [cut(row, labels) for row in whole]
        return run((pivot, source), tokenizers, tmp_path / f"{labels}", scheme=scheme, pivot="fine")["behind_source"]

    def expected(labels):
        found = 0
        for ours, theirs in zip(pivot, whole, strict=True):
            row = cut(theirs, labels)
            # What is at or behind the byte where the last token ends is unread, but for the end of a turn that ends it.
            last = (row.turn[-1], max(row.end[-1] - 1, row.start[-1])) if labels else (-1, 0)
            found += sum((turn, start) > last for turn, start in zip(ours.turn, ours.start, strict=True))
        return found

    assert behind(50) == 0
    assert behind(0) == sum(len(row.label_ids) for row in pivot)
    assert [behind(labels) for labels in (1, 2, 4)] == [expected(labels) for labels in (1, 2, 4)]
    assert 0 < expected(4) < expected(2) < expected(1)


def test_what_the_source_gave_is_noted_beside_what_is_kept_of_it(corpus, tokenizers, tmp_path):
    facts = run(corpus, tokenizers, tmp_path)
    given = []
    for row, source in zip(open_aligned(tmp_path), corpus[1][::-1], strict=True):
        there = row.source_position[row.kind == TRANSFERRED]
        given += np.exp(source.top.log_probs[there].astype(np.float64)).sum(1).tolist()
    assert facts["given_mass"] == pytest.approx(np.mean(given), abs=1e-5)
    assert facts["kept_mass"] < facts["given_mass"]


def test_a_damaged_shard_is_refused(corpus, tokenizers, tmp_path):
    run(corpus, tokenizers, tmp_path)
    (tmp_path / "aligned-00001.safetensors").write_bytes(b"no")
    assert open_aligned(tmp_path)[0].conversation_id == "c0"
    with pytest.raises(Refusal, match=r"aligned-00001.safetensors is not a shard"):
        open_aligned(tmp_path)[2]


def test_align_reads_the_end_of_a_turn_from_the_chat_template(tokenizers, represented, tmp_path):
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    for name in ("coarse", "fine"):
        tokenizers[name].chat_template = template
    rows = [represented(tokenizers[name], ["the cat"]) for name in ("coarse", "fine")]
    facts = align(
        pivot=SimpleNamespace(rows=rows[:1], vocabulary=len(tokenizers["coarse"])),
        source=SimpleNamespace(rows=rows[1:]),
        pivot_tokenizer=tokenizers["coarse"],
        source_tokenizer=tokenizers["fine"],
        config=AlignConfig(scheme="byte_span"),
        out=tmp_path,
    )
    assert facts["transferred"] == facts["positions"]  # all borders of the coarse tokens are borders of the fine ones
    assert len(open_aligned(tmp_path)) == 1
