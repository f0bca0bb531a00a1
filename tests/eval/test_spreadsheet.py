"""CSV cells that begin as formulas, and their way back."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.spreadsheet import cell, plain, read_csv, rows_csv, table_csv

FORMULAS: tuple[str, ...] = (
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "'=1",
    "\t=1",
    " =1",
    "\n=1",
    "'\u3000＝1",
)
FORMULAS += tuple(f"{wide}1+1" for wide in "＝＋－＠")


@pytest.mark.parametrize("name", FORMULAS)
def test_what_a_spreadsheet_would_run_is_text_and_comes_back(name, tmp_path):
    text = table_csv(pd.DataFrame({"model": [name, "plain"], name: [1.5, None]}))
    (head, first, _) = csv.reader(io.StringIO(text, newline=""))
    assert first[0] == head[1] == "'" + name
    (tmp_path / "t.csv").write_text(text)
    rows = read_csv(tmp_path / "t.csv")
    assert [row["model"] for row in rows] == [name, "plain"]
    assert [row[name] for row in rows] == ["1.5", ""]
    assert rows_csv([["model", name], [name, 1.5], ["plain", None]]) == text


@pytest.mark.parametrize("value", [-0.5, "-0.5", "+3", "-1e-05", 7, None, "a-b", "x=1", "", "'quoted'"])
def test_numbers_and_ordinary_text_are_themselves(value):
    assert cell(value) == value


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=12))
def test_every_name_comes_back(name):
    assert plain(str(cell(name))) == name


def test_a_terminal_that_shows_the_file_is_sent_no_command():
    text = rows_csv([["\x1b]0;title\x07", "two\nlines", "\x9b31m"]])
    assert text == '␛]0;title␇,"two\nlines",\ufffd31m\n'
