"""Tokens of one vocabulary find their likes in another: equal text first, then the smallest edit distance."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.ensembles.vocabulary_map import map_into, token_texts
from fusion.runtime.edit_distance import edit_distance

WORDS = st.text(alphabet="abcé ", max_size=7)


def test_equal_text_then_least_distance_then_lowest_id():
    reference = [" the", "there", None, "xyz", "tab"]
    other = ["tap", " the", None, "here", "the", "tag"]
    # " the" is there; "there" is one letter from "here" (and two from "the"); None stands for nothing; "xyz" shares no
    # letter, so that distance 3 is reached by "tap", "the" and "tag"; "tab" is one letter from "tap" and from "tag".
    assert map_into(reference, other).tolist() == [1, 3, -1, 0, 0]


def test_a_vocabulary_without_texts_is_refused():
    with pytest.raises(ValueError, match="no token with a text"):
        map_into(["a"], [None])


@settings(deadline=None)  # the first example waits for the compiler
@given(text=WORDS, others=st.lists(WORDS, min_size=1, max_size=8))
def test_the_search_finds_what_trying_all_would_find(text, others):
    first = {other: number for number, other in reversed(list(enumerate(others)))}
    expected = min(first.values(), key=lambda number: (edit_distance(text, others[number]), number))
    assert map_into([text], others).tolist() == [expected]


def test_a_space_is_a_space_whatever_marks_it(tokenizers):
    texts = {kind: token_texts(tokenizer) for kind, tokenizer in tokenizers.items()}
    for kind, tokenizer in tokenizers.items():
        assert len(texts[kind]) == len(tokenizer)
        assert texts[kind][tokenizer.eos_token_id] is None
    shared = set(texts["bytes"]) & set(texts["pieces"]) - {None}
    assert any(text.startswith(" ") and len(text) > 2 for text in shared)
    assert not any("\u2581" in text or "\u0120" in text for text in shared)
