"""The compiled warping path is the plain one's, and takes little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.align.aligners import token_dtw
from fusion.align.aligners.token_dtw import TokenDTW, warp
from fusion.align.audit import text_row
from fusion.align.matches import START, inputs
from fusion.align.pair import VocabularyPair
from fusion.conversations.vocabulary import vocabulary
from fusion.runtime.edit_distance import cost_table, nearest_ids, numbered

WORDS = st.lists(st.text("abc é", max_size=6), min_size=1, max_size=12)
TEXTS = ["the cat sat on the mat", "  12 + 345 = 357,\n\n naïve 你好 👩‍👩‍👧 end", "x"]


def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        diagonal, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            diagonal, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, diagonal + (x != y))
    return row[-1]


def plain_path(costs: list[list[int]], order: tuple[str, str, str]) -> list[list[int]]:
    """For each pivot token the ascending source tokens on the cheapest path; ties go to the first of `order`."""
    n, m = len(costs), len(costs[0])
    total = {}
    for i in range(n):
        for j in range(m):
            before = [total[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in total]
            total[i, j] = costs[i][j] + min(before, default=0)
    matched: list[list[int]] = [[] for _ in range(m)]
    i, j = n - 1, m - 1
    while True:
        matched[j].insert(0, i)
        if i == j == 0:
            return matched
        steps = {"diagonal": (i - 1, j - 1), "source": (i - 1, j), "pivot": (i, j - 1)}
        i, j = min((steps[name] for name in order if steps[name] in total), key=lambda cell: total[cell])


def plain_costs(source: list[str], pivot: list[str], space: str, whole_when_empty: bool) -> list[list[int]]:
    def cost(s: str, b: str) -> int:
        s_bare, b_bare = s.replace(space, ""), b.replace(space, "")
        return levenshtein(s, b) if whole_when_empty and not (s_bare and b_bare) else levenshtein(s_bare, b_bare)

    return [[cost(s, b) for b in pivot] for s in source]


@settings(deadline=None, max_examples=60)
@given(source=WORDS, pivot=WORDS)
def test_compiled_costs_are_levenshtein_distances(source, pivot):
    ours, theirs = numbered(source, pivot)
    table = cost_table(ours, np.arange(len(source)), theirs, np.arange(len(pivot)))
    assert table.tolist() == [[levenshtein(s, b) for b in pivot] for s in source]


def test_strings_longer_than_a_machine_word_take_the_table():
    source, pivot = ["ab" * 40, "a" * 64, "a" * 65, ""], ["ba" * 40, "a" * 63 + "b", "b" * 70, ""]
    ours, theirs = numbered(source, pivot)
    table = cost_table(ours, np.arange(4), theirs, np.arange(4))
    assert table.tolist() == [[levenshtein(s, b) for b in pivot] for s in source]


@settings(deadline=None, max_examples=60)
@given(source=WORDS, pivot=WORDS)
def test_the_nearest_string_is_the_first_at_the_least_distance(source, pivot):
    ours, theirs = numbered(source, pivot)
    expected = [min(range(len(pivot)), key=lambda j: levenshtein(s, pivot[j])) for s in source]
    assert nearest_ids(ours, np.arange(len(source)), theirs).tolist() == expected


@settings(deadline=None, max_examples=120)
@given(
    data=st.data(), n=st.integers(1, 9), m=st.integers(1, 9), source_first=st.booleans(), rows_at_once=st.integers(1, 9)
)
def test_the_path_and_its_ties_are_the_plain_one_s(data, n, m, source_first, rows_at_once):
    costs = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=m, max_size=m), min_size=n, max_size=n))
    table = np.array(costs, np.int32)
    order = ("diagonal", "source", "pivot") if source_first else ("diagonal", "pivot", "source")
    first, last = warp(
        lambda begin, end: (table[begin:end], np.arange(end - begin)),
        n,
        np.arange(m),
        source_first=source_first,
        rows_at_once=rows_at_once,
    )
    assert [list(range(a, b + 1)) for a, b in zip(first, last, strict=True)] == plain_path(costs, order)


@pytest.mark.parametrize(("ours", "theirs"), [("coarse", "fine"), ("fine", "unigram")])
@pytest.mark.parametrize("reading", ["paper", "released"])
def test_a_turn_of_many_blocks_has_the_path_of_one(tokenizers, ours, theirs, reading, monkeypatch):
    text = ["\n".join(f"{i}你好 naïve café, def f{i}(x): שלום" for i in range(40)), "", "é"]
    pair = VocabularyPair(
        pivot=vocabulary(tokenizers[ours]),
        source=vocabulary(tokenizers[theirs]),
        reading=reading,
        spelling="decoded" if reading == "released" else "canonical",
    )
    pivot, source = text_row(tokenizers[ours], text), text_row(tokenizers[theirs], text)
    whole = TokenDTW(pair)(pivot, source)
    monkeypatch.setattr(token_dtw, "_CELLS_AT_ONCE", 1)
    assert len(source.label_ids) > 500  # so many rows at once are 22
    parted = TokenDTW(pair)(pivot, source)
    np.testing.assert_array_equal(parted.positions, whole.positions)
    np.testing.assert_array_equal(parted.offset, whole.offset)


def test_a_long_turn_takes_memory_in_proportion_to_its_length_and_little_more(coarse, fine):
    pair = VocabularyPair(pivot=vocabulary(coarse), source=vocabulary(fine))

    def peak(words: int) -> tuple[int, int]:
        text = [" ".join(f"log {i} 12:{i % 60:02d} said the cat" for i in range(words))]
        pivot, source = text_row(coarse, text), text_row(fine, text)
        aligner = TokenDTW(pair)
        tracemalloc.start()
        try:
            aligner(pivot, source)
            return len(pivot.label_ids) * len(source.label_ids), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (cells, small), (more, large) = peak(250), peak(750)
    assert more > 8 * cells and more > 3e7
    assert large < 3 * small and large < more  # one byte a cell; D alone takes four


@pytest.mark.parametrize(
    ("reading", "spelling", "order"),
    [
        ("paper", "canonical", ("diagonal", "source", "pivot")),
        ("released", "decoded", ("diagonal", "pivot", "source")),
        ("released", "pieces", ("diagonal", "source", "pivot")),
    ],
)
@pytest.mark.parametrize(("ours", "theirs"), [("coarse", "fine"), ("unigram", "coarse"), ("fine", "unigram")])
def test_each_reading_aligns_as_the_plain_algorithm(tokenizers, ours, theirs, reading, spelling, order):
    pair = VocabularyPair(
        pivot=vocabulary(tokenizers[ours]), source=vocabulary(tokenizers[theirs]), reading=reading, spelling=spelling
    )
    aligner = TokenDTW(pair)
    pivot, source = text_row(tokenizers[ours], TEXTS), text_row(tokenizers[theirs], TEXTS)
    matches = aligner(pivot, source)
    found = [matches.positions[a:b].tolist() for a, b in zip(matches.offset[:-1], matches.offset[1:], strict=True)]
    expected = []
    for turn in range(len(TEXTS)):
        b = ["" if i == START else pair.pivot_strings[i] for i in inputs(pivot)[pivot.turn == turn]]
        s = ["" if i == START else pair.source_strings[i] for i in inputs(source)[source.turn == turn]]
        costs = plain_costs(s, b, pair.space, whole_when_empty=spelling != "pieces")
        offset = int(np.flatnonzero(source.turn == turn)[0])
        expected += [[offset + i for i in w] for w in plain_path(costs, order)]
    assert found == expected


def test_turns_the_source_s_row_was_cut_before_are_not_matched(coarse, fine):
    pivot, source = text_row(coarse, ["the cat", "the mat"]), text_row(fine, ["the cat"])
    aligner = TokenDTW(VocabularyPair(pivot=vocabulary(coarse), source=vocabulary(fine)))
    counts = aligner(pivot, source).counts
    assert (counts[pivot.turn == 0] > 0).all() and (counts[pivot.turn == 1] == 0).all()


def test_decoded_spelling_is_what_the_tokenizer_decodes(tokenizers):
    for tokenizer in tokenizers.values():
        pair = VocabularyPair(pivot=vocabulary(tokenizer), source=vocabulary(tokenizer), spelling="decoded")
        for token_id in range(len(tokenizer)):
            assert pair.pivot_strings[token_id] == tokenizer.backend_tokenizer.decode(
                [token_id], skip_special_tokens=False
            )
