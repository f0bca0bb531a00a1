"""The better of two answers in a judge's words, read as fastchat reads it."""

import pytest

from eval.benchmarks.fastchat.verdict_letter import LOSS, TIE, WIN, parse_verdict, verdict_letter


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("A is better. [[A]]", WIN, LOSS),
        ("[[B]]", LOSS, WIN),
        ("Both fine: [[C]]", TIE, TIE),
        ("[[B]] ... on reflection [[A]]", WIN, LOSS),  # A is looked for first, wherever it stands
        ("[[C]], not [[B]]", LOSS, WIN),
    ],
)
def test_the_letter_is_the_preference_for_the_model_wherever_it_was_shown(text, first, second):
    assert parse_verdict(text, shown_first=True) == first
    assert parse_verdict(text, shown_first=False) == second


@pytest.mark.parametrize("text", ["", "A", "[A]", "[[a]]", "[[D]]", "$ERROR$", "[[7]]"])
def test_no_letter_is_no_verdict(text):
    with pytest.raises(ValueError, match="no verdict"):
        parse_verdict(text, shown_first=True)


@pytest.mark.parametrize("shown_first", [True, False])
@pytest.mark.parametrize(("value", "read"), [(2, WIN), (1.7, WIN), (1.5, TIE), (1.2, LOSS), (1, LOSS)])
def test_a_preference_is_written_as_the_letter_that_reads_back(value, read, shown_first):
    assert parse_verdict(verdict_letter(value, shown_first=shown_first), shown_first=shown_first) == read
