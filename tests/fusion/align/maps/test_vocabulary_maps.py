"""Which pivot token a source token stands for, on vocabularies small enough to say by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.align import VOCABULARY_MAPS
from fusion.align.matches import Matches
from fusion.align.pair import VocabularyPair
from fusion.align.statistics import CoOccurrence, co_occurrence
from fusion.conversations.vocabulary import Vocabulary, vocabulary
from fusion.distribution import NO_TOKEN


def words(*pieces: str, special: tuple[str, ...] = (), marker: str = "▁", **roles: int) -> Vocabulary:
    spelled = [None if p in special else p.replace(marker, " ").encode() for p in pieces]
    return Vocabulary(pieces=list(pieces), spelled=spelled, marker=marker, decode_drops_space=True, **roles)


def counts(*triples: tuple[int, int, int]) -> CoOccurrence:
    """(source id, pivot id, count), ordered as `co_occurrence` orders them."""
    table = np.array(sorted(triples), np.int64).reshape(-1, 3)
    return CoOccurrence(source_ids=table[:, 0], pivot_ids=table[:, 1], count=table[:, 2])


def mapped(name: str, pivot: Vocabulary, source: Vocabulary, *, reading="paper", statistics=None) -> list[int]:
    spelling = "pieces" if reading == "released" else "canonical"
    pair = VocabularyPair(pivot=pivot, source=source, reading=reading, spelling=spelling)
    return VOCABULARY_MAPS[name](pair, lambda: statistics or counts()).ids.tolist()


@pytest.mark.parametrize("name", VOCABULARY_MAPS)
@pytest.mark.parametrize("reading", ["paper", "released", "fixed"])
def test_equal_pieces_under_other_space_markers_are_one_token(name, reading):
    pivot = words("▁the", "the", "▁cat")
    source = words("Ġcat", "the", "Ġthe", marker="Ġ")
    assert mapped(name, pivot, source, reading=reading) == [2, 1, 0]


@pytest.mark.parametrize("name", VOCABULARY_MAPS)
@pytest.mark.parametrize("tokenizer", ["coarse", "fine", "unigram"])
@pytest.mark.parametrize("reading", ["paper", "released", "fixed"])
def test_a_vocabulary_maps_onto_itself(tokenizers, name, tokenizer, reading):
    own = vocabulary(tokenizers[tokenizer], end_of_turn=tokenizers[tokenizer].eos_token_id)
    assert mapped(name, own, own, reading=reading) == list(range(len(own)))


def test_a_character_is_no_byte_piece_though_both_spell_it():
    pivot = Vocabulary(pieces=["<0x61>", "a"], spelled=[b"a", b"a"], marker="▁", decode_drops_space=True)
    source = words("a", marker="Ġ")
    assert mapped("string", pivot, source) == [1]
    assert mapped("string", pivot, pivot) == [0, 1]


def test_the_name_of_a_special_token_is_not_the_text_that_spells_it():
    pivot = words("</s>", special=("</s>",))
    source = words("</s>", "x", marker="Ġ")
    assert mapped("string", pivot, source) == [NO_TOKEN, NO_TOKEN]


@pytest.mark.parametrize("name", VOCABULARY_MAPS)
def test_end_of_turn_goes_to_end_of_turn_and_by_name_only_as_released(name):
    # Mixtral ends a turn with </s>; the pivot has a </s> too, and ends turns with another token.
    pivot = words(
        "<unk>", "</s>", "<|end_of_turn|>", special=("<unk>", "</s>", "<|end_of_turn|>"), eos=1, end_of_turn=2
    )
    source = words("<unk>", "</s>", special=("<unk>", "</s>"), eos=1, end_of_turn=1)
    assert mapped(name, pivot, source)[1] == 2
    if name not in ("string", "longest_prefix"):  # ours: no code was released
        assert mapped(name, pivot, source, reading="released")[1] == 1


def with_unknown(*pieces: str, **roles: int) -> Vocabulary:
    """A vocabulary whose first piece is its unknown token."""
    return words("<unk>", *pieces, special=("<unk>",), unk=0, unknown=0, **roles)


@pytest.mark.parametrize("name", VOCABULARY_MAPS)
@pytest.mark.parametrize("reading", ["paper", "fixed"])
def test_an_unknown_token_stands_for_another_s_only_where_both_can_spell_the_same(name, reading):
    # What the source cannot spell, "b", the pivot can.
    assert mapped(name, with_unknown("a", "b"), with_unknown("a"), reading=reading) == [NO_TOKEN, 1]
    assert mapped(name, with_unknown("a"), with_unknown("a", "ab"), reading=reading)[0] == NO_TOKEN
    assert mapped(name, with_unknown("a", "b"), with_unknown("b", "a"), reading=reading) == [0, 2, 1]


def test_as_released_unknown_tokens_are_equal_by_name():
    assert mapped("exact_match", with_unknown("a", "b"), with_unknown("a"), reading="released") == [0, 1]


@pytest.mark.parametrize("name", VOCABULARY_MAPS)
def test_padding_with_the_unknown_token_gives_unknown_text_nowhere_to_go(name):
    pads, ends = with_unknown("a", "b", pad=0), with_unknown("a", "<pad>", pad=2)
    assert mapped(name, ends, pads)[0] == NO_TOKEN
    assert mapped(name, pads, ends)[0] == NO_TOKEN
    # A padding token that is nothing else goes by its role still.
    assert mapped(name, words("[PAD]", special=("[PAD]",), pad=0), words("<pad>", special=("<pad>",), pad=0)) == [0]


def test_an_unknown_token_is_not_what_a_word_stands_for_however_often_they_meet():
    pivot, source = with_unknown("cat", "c"), with_unknown("katze")
    often = counts((1, 0, 900), (1, 2, 3), (0, 1, 50))
    assert mapped("mapping_statistics", pivot, source, statistics=often) == [NO_TOKEN, 2]
    assert mapped("mapping_statistics", pivot, source, statistics=counts((1, 0, 900))) == [NO_TOKEN, NO_TOKEN]
    assert mapped("mapping_statistics", pivot, source, statistics=counts((1, 0, 900)), reading="released")[1] == 0


def test_exact_match_and_string_drop_what_the_pivot_lacks():
    pivot, source = words("cat"), words("cot", "cat")
    assert mapped("exact_match", pivot, source) == [NO_TOKEN, 0]
    assert mapped("string", pivot, source) == [NO_TOKEN, 0]


def test_min_edit_distance_takes_the_nearest_and_of_several_the_first():
    # kitten: sitting 3, mitten 1, bitten 1; the special token is nearer still, and no text
    pivot = words("sitting", "mitten", "bitten", "kitte", special=("kitte",))
    assert mapped("min_edit_distance", pivot, words("kitten")) == [1]
    assert mapped("min_edit_distance", pivot, words("kitten"), reading="released") == [1]
    assert mapped("min_edit_distance", pivot, words("kitte")) == [1]


def test_min_edit_distance_compares_text_where_the_released_code_compares_vocabulary_entries():
    pivot = words("é", "Ãª")
    source = Vocabulary(pieces=["Ã©t"], spelled=["ét".encode()], marker="Ġ", decode_drops_space=False)
    assert mapped("min_edit_distance", pivot, source) == [0]
    assert mapped("min_edit_distance", pivot, source, reading="released") == [1]  # Ã©t: Ãª 2, é 3


def test_released_statistics_prefer_the_rarer_of_two_equally_near_tokens():
    pivot, source = words("cat", "cot"), words("cut")
    often_cat = counts((0, 0, 1000), (0, 1, 1))
    # distance 1 each: 1 * sigmoid(1000) = 1 against 1 * sigmoid(1) = 0.73
    assert mapped("mapping_statistics", pivot, source, reading="released", statistics=often_cat) == [1]
    assert mapped("mapping_statistics", pivot, source, reading="fixed", statistics=often_cat) == [0]
    often_cot = counts((0, 0, 1), (0, 1, 1000))
    assert mapped("mapping_statistics", pivot, source, reading="released", statistics=often_cot) == [0]
    assert mapped("mapping_statistics", pivot, source, reading="fixed", statistics=often_cot) == [1]


def test_released_statistics_discount_containment():
    pivot, source = words("xyz", "information"), words("inform")
    # xyz: 6 * sigmoid(50); information: 5 * 0.1 * sigmoid(50)
    assert mapped(
        "mapping_statistics", pivot, source, reading="released", statistics=counts((0, 0, 50), (0, 1, 50))
    ) == [1]


@pytest.mark.parametrize(
    ("pivot", "source", "expected"),
    [
        # nothing is left of the bare space, so whole pieces are compared: 4 from "step" and no part of it; "stop": 1
        (("▁", "stop"), "step", 1),
        # the same on the source's side: the space itself is a part of "▁x", 1 * 0.1, and none of "y", 1
        (("y", "▁x"), "Ġ", 1),
        # several spaces are nothing without them either
        (("▁▁", "tin"), "ten", 1),
    ],
)
def test_released_containment_is_that_of_the_strings_whose_distance_is_taken(pivot, source, expected):
    seen = counts((0, 0, 9), (0, 1, 9))
    theirs = words(source, marker="Ġ")
    assert mapped("mapping_statistics", words(*pivot), theirs, reading="released", statistics=seen) == [expected]


def test_a_token_never_seen_teaches_unknown_as_released_and_nothing_else():
    pivot, source = words("<unk>", "a", "</s>", special=("<unk>", "</s>"), unk=0, eos=2), words("zebra")
    assert mapped("mapping_statistics", pivot, source, reading="released") == [0]
    assert mapped("mapping_statistics", pivot, source) == [NO_TOKEN]
    without_unknown = words("</s>", "a", special=("</s>",), eos=0)
    assert mapped("mapping_statistics", without_unknown, source, reading="released") == [0]


def test_equal_frequencies_go_to_the_nearer_string():
    pivot, source = words("dog", "cat"), words("cut")
    assert mapped("mapping_statistics", pivot, source, statistics=counts((0, 0, 7), (0, 1, 7))) == [1]


def test_a_space_of_the_template_is_put_in_front_or_taken_off():
    spaced, plain = words("▁Hi", "Hi"), words("Hi", "ĠHi", "Ġ", marker="Ġ")
    forward = VOCABULARY_MAPS["string"](VocabularyPair(pivot=spaced, source=plain), counts)
    assert forward.table()[1].tolist() == [0, NO_TOKEN, NO_TOKEN]
    assert forward.table()[2].tolist() == [NO_TOKEN, 1, NO_TOKEN]


def test_at_a_turn_s_border_a_character_is_no_byte_piece_either():
    pivot = Vocabulary(pieces=["<0x61>", "a"], spelled=[b"a", b"a"], marker="▁", decode_drops_space=True)
    table = VOCABULARY_MAPS["string"](VocabularyPair(pivot=pivot, source=words("Ġa", marker="Ġ")), counts).table()
    assert table[2].tolist() == [1]  # "a", the space in front of it taken off


def test_a_token_the_pivot_lacks_goes_to_the_longest_piece_it_begins_with():
    pivot = words("▁", "▁in", "▁inter", "int", "t", "</s>", special=("</s>",))
    source = words("Ġinternational", "Ġinter", "international", "Ġa", "no", "</s", marker="Ġ")
    assert mapped("longest_prefix", pivot, source) == [2, 2, 3, 0, NO_TOKEN, NO_TOKEN]
    assert mapped("string", pivot, source) == [NO_TOKEN, 2, NO_TOKEN, NO_TOKEN, NO_TOKEN, NO_TOKEN]
    pair = VocabularyPair(pivot=pivot, source=source)
    added, removed = VOCABULARY_MAPS["longest_prefix"](pair, counts).table()[1:].tolist()
    assert added[2:5] == [2, 0, 0]  # " international", " " alone of "  a", and of " no"
    assert removed == [
        3,
        3,
        NO_TOKEN,
        NO_TOKEN,
        NO_TOKEN,
        NO_TOKEN,
    ]  # "international", "inter"; others begin with no space


@pytest.mark.parametrize("source", ["coarse", "unigram"])
def test_a_pivot_of_all_bytes_has_a_beginning_for_every_text(tokenizers, source):
    pair = VocabularyPair(pivot=vocabulary(tokenizers["fine"]), source=vocabulary(tokenizers[source]))
    for token_id, found in enumerate(VOCABULARY_MAPS["longest_prefix"](pair, counts).ids.tolist()):
        text = pair.source.spelled[token_id]
        if text is None:
            continue
        begins = [known for known in pair.pivot.spelled if known and text.startswith(known)]
        assert pair.pivot.spelled[found] == max(begins, key=len)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_counts_are_those_of_a_loop(data):
    length, n = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    ours = data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length))
    theirs = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    ranges = [sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=n))) for _ in range(length)]

    class Tokens:
        def __init__(self, ids):
            self.label_ids = np.array(ids, np.int32)
            self.turn = np.zeros(len(ids), np.int16)
            self.start = self.end = np.arange(len(ids), dtype=np.int32)

    matches = Matches(
        offset=np.cumsum([0, *map(len, ranges)]), positions=np.array([j for r in ranges for j in r], np.int32)
    )
    found = co_occurrence([(matches, Tokens(ours), Tokens(theirs))] * 2)
    expected: dict[tuple[int, int], int] = {}
    for i, matched in enumerate(ranges):
        # the matched tokens are those in front of the labels; the first has the template in front of it
        for source_id in {theirs[j - 1] for j in matched if j > 0}:
            if i > 0:
                key = (source_id, ours[i - 1])
                expected[key] = expected.get(key, 0) + 2
    triples = zip(found.source_ids.tolist(), found.pivot_ids.tolist(), found.count.tolist(), strict=True)
    assert {(s, p): c for s, p, c in triples} == expected
    assert list(zip(found.source_ids, found.pivot_ids, strict=True)) == sorted(expected)
