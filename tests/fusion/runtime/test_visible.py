"""Control characters of others' text, as signs."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fusion.runtime.progress import RunProgress
from fusion.runtime.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("source-numbers (align=em)", "source-numbers (align=em)"),
        ("\x1b[2J\x1b[31mred", "␛[2J␛[31mred"),
        ("a\r\nb\tc\x00\x7f", "a␍␊b␉c␀\ufffd"),
        ("\u202etxt.exe\u2066", "\ufffdtxt.exe\ufffd"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("日本語 é 👩‍🔬", "日本語 é 👩‍🔬"),
    ],
)
def test_what_would_act_is_a_sign_and_all_else_is_itself(text, shown):
    assert visible(text) == shown


def test_line_breaks_and_tabs_stay_where_lines_are_wanted():
    assert visible("a\n\tb\r\x1b", lines=True) == "a\n\tb␍␛"


@given(st.text(st.characters(), max_size=30))
def test_nothing_that_acts_is_left(text):
    shown = visible(text)
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in shown)
    shown.encode()  # raises at half a surrogate pair
    assert visible(shown) == shown


def test_a_run_shows_names_and_sentences_of_others_as_they_are():
    stream = io.StringIO()
    with RunProgress(Console(file=stream, force_terminal=True, width=200, color_system=None)) as progress:
        with progress.stage("answers", "[/] \x1b]0;owned\x07 [red]x"):
            pass
        progress.note("said [/bold] \x1b[2J")
    shown = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", stream.getvalue())
    assert "[/] ␛]0;owned␇ [red]x" in shown
    assert "said [/bold] ␛[2J" in shown
    assert "\x1b]" not in stream.getvalue() and "\x07" not in stream.getvalue()
