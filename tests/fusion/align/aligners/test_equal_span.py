"""Strict alignment matches the tokens that cut the text alike, one to one, and no others."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.align.aligners.byte_span import ByteSpan
from fusion.align.aligners.equal_span import EqualSpan
from fusion.align.audit import TextRow, text_row

TURNS = st.lists(st.text(st.sampled_from("the cat sat on mat 0123456789.,\né你"), max_size=40), min_size=1, max_size=3)


def row(spans: list[tuple[int, int]], turns: list[int] | None = None) -> TextRow:
    start, end = np.array(spans, np.int32).reshape(-1, 2).T
    turn = np.array(turns or [0] * len(spans), np.int16)
    return TextRow(label_ids=np.arange(len(spans), dtype=np.int32), turn=turn, start=start, end=end)


def test_tokens_that_begin_together_and_end_apart_are_not_matched():
    # "abcdefg" as abc|d|ef|g and as abc|def|g, each with its end-of-turn label at 7
    pivot = row([(0, 3), (3, 4), (4, 6), (6, 7), (7, 7)])
    source = row([(0, 3), (3, 6), (6, 7), (7, 7)])
    assert EqualSpan()(pivot, source).only().tolist() == [0, -1, -1, 2, 3]
    assert EqualSpan()(source, pivot).only().tolist() == [0, -1, 3, 4]
    # byte_span carries the source's def to the pivot's d: both begin behind abc.
    assert ByteSpan()(pivot, source).only().tolist() == [0, 1, -1, 2, 3]


def test_equal_spans_of_different_turns_are_not_matched():
    pivot = row([(0, 2), (2, 2), (0, 2), (2, 2)], [0, 0, 1, 1])
    source = row([(0, 2), (2, 2), (0, 1), (1, 2), (2, 2)], [0, 0, 1, 1, 1])
    assert EqualSpan()(pivot, source).only().tolist() == [0, 1, -1, 4]


def test_a_token_of_no_text_is_matched_with_one_of_no_text():
    # A dummy space in front of the text, which the other tokenizer does not write, or both do.
    spaced, plain = row([(0, 0), (0, 2), (2, 2)]), row([(0, 2), (2, 2)])
    assert EqualSpan()(spaced, plain).only().tolist() == [-1, 0, 1]
    assert EqualSpan()(plain, spaced).only().tolist() == [1, 2]
    assert EqualSpan()(spaced, spaced).only().tolist() == [0, 1, 2]


def test_an_empty_row_has_no_matches():
    assert EqualSpan()(row([]), row([(0, 2)])).only().tolist() == []
    assert EqualSpan()(row([(0, 2)]), row([])).only().tolist() == [-1]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=TURNS)
@pytest.mark.parametrize(("ours", "theirs"), [("coarse", "fine"), ("fine", "coarse"), ("unigram", "fine")])
def test_every_equal_span_is_found_once_and_no_other(tokenizers, ours, theirs, turns):
    pivot, source = text_row(tokenizers[ours], turns), text_row(tokenizers[theirs], turns)
    matches = EqualSpan()(pivot, source)
    spans = [list(zip(one.turn.tolist(), one.start.tolist(), one.end.tolist(), strict=True)) for one in (pivot, source)]
    found = matches.only()
    assert (matches.counts <= 1).all()
    used = found[found >= 0].tolist()
    assert len(set(used)) == len(used)
    for span, position in zip(spans[0], found.tolist(), strict=True):
        if position >= 0:
            assert spans[1][position] == span
        elif spans[0].count(span) == spans[1].count(span) == 1:
            pytest.fail(f"{span} of both was not matched")
