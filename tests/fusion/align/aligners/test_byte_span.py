"""Alignment by text position is exact: matched positions have the same text in front of them, and none is missed."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.align.aligners.byte_span import ByteSpan
from fusion.align.audit import TextRow, text_row

PLAIN = st.text(
    st.one_of(
        st.sampled_from("the cat sat on mat 0123456789.,\n"), st.characters(codec="utf-8", exclude_categories=["Cs"])
    ),
    max_size=40,
)
TURNS = st.lists(PLAIN, min_size=1, max_size=3)


def row(starts: list[int], turns: list[int] | None = None) -> TextRow:
    start = np.array(starts, np.int32)
    turn = np.array(turns or [0] * len(starts), np.int16)
    return TextRow(label_ids=np.arange(len(starts), dtype=np.int32), turn=turn, start=start, end=start)


def test_positions_with_the_same_start_are_matched():
    # "abcdef" as abc|d|ef and as a|bc|def, each with its end-of-turn label at 6
    assert ByteSpan()(row([0, 3, 4, 6]), row([0, 1, 3, 6])).only().tolist() == [0, 2, -1, 3]


def test_equal_starts_of_different_turns_are_not_matched():
    matches = ByteSpan()(row([0, 2, 0, 2], [0, 0, 1, 1]), row([0, 2, 2], [0, 1, 1]))
    # the source's turn 1 has two labels at byte 2: the last of them is matched
    assert matches.only().tolist() == [0, -1, -1, 2]


def test_labels_of_no_text_are_paired_from_the_last_one_back():
    assert ByteSpan()(row([0, 2]), row([0, 0, 2])).only().tolist() == [1, 2]
    assert ByteSpan()(row([0, 0, 2]), row([0, 2])).only().tolist() == [-1, 0, 1]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=TURNS)
@pytest.mark.parametrize(("ours", "theirs"), [("coarse", "fine"), ("fine", "coarse"), ("coarse", "coarse")])
def test_every_shared_border_is_found_and_no_other(tokenizers, ours, theirs, turns):
    pivot, source = text_row(tokenizers[ours], turns), text_row(tokenizers[theirs], turns)
    matches = ByteSpan()(pivot, source)
    places = {(int(t), int(s)): j for j, (t, s) in enumerate(zip(source.turn, source.start, strict=True))}
    expected = [places.get((int(t), int(s)), -1) for t, s in zip(pivot.turn, pivot.start, strict=True)]
    assert matches.only().tolist() == expected
    if ours == theirs:
        assert matches.only().tolist() == list(range(len(pivot.label_ids)))


def test_a_dummy_space_does_not_shift_positions(coarse, unigram):
    text = ["the cat sat"]
    pivot, source = text_row(unigram, text), text_row(coarse, text)
    matches = ByteSpan()(pivot, source)
    found = matches.only()
    assert found[0] == 0 and found[-1] == len(source.start) - 1
    assert (pivot.start[found >= 0] == source.start[found[found >= 0]]).all()
