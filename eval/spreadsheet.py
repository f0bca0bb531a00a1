"""CSV that a spreadsheet shows and does not run: text that it would take for a formula has an apostrophe before it.

Reading takes the apostrophe away again, so a name comes back as it was.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.runtime.visible import visible

if TYPE_CHECKING:
    import pandas as pd

# What spreadsheets begin a formula with, some in its wide form or behind white space that they take away; apostrophes
# before it count, or one of a name's own would be taken away.
_FORMULA = re.compile(r"'*(\s*[=+\-@＝＋－＠]|[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(value: object) -> object:
    """A value as its cell holds it; numbers are themselves, also those in text."""
    if not isinstance(value, str):
        return value
    if _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        value = f"'{value}"
    return visible(value, lines=True)


def plain(text: str) -> str:
    """What `cell` was given, where it holds no control character."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def rows_csv(rows: Iterable[Sequence[object]]) -> str:
    """The rows, the heads among them; None is an empty cell."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return stream.getvalue()


def table_csv(table: pd.DataFrame) -> str:
    """The table without its index."""
    guarded = table.rename(columns=cell)
    for place in range(guarded.shape[1]):
        column = guarded.iloc[:, place]
        if column.dtype.kind == "O":
            guarded.isetitem(place, column.map(cell))
    text: str = guarded.to_csv(index=False, lineterminator="\n")
    return text


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `rows_csv` or `table_csv` wrote, by their heads."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{plain(name): plain(value or "") for name, value in row.items()} for row in csv.DictReader(stream)]
