"""The leaderboard on the terminal, where the report lies, and the command that goes on from it.

A table wider than the terminal is printed as several, each with the models' names: no value or difference is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from eval.report.headline import headline
from eval.report.tables import DAGGER, LeaderboardRow, TableCell, leaderboard, rounded
from eval.scores.intervals import Uncertainty
from fusion.runtime.next_step import say_next
from fusion.runtime.visible import visible

_NARROWEST_NAME, _WIDEST_NAME = 8, 32
_GAP = 3  # what rich puts between two columns
_LOG = 80  # columns of a file, which is not folded when it is read


@dataclass(frozen=True, kw_only=True)
class _Column:
    title: str
    cells: Sequence[str]  # in rich's markup

    @property
    def width(self) -> int:
        return max(Text.from_markup(text).cell_len for text in (escape(self.title), *self.cells))


def show(
    table: pd.DataFrame, out: Path, *, uncertainty: Uncertainty | None = None, next_command: Sequence[str] = ()
) -> None:
    """Print the leaderboard of a score table (estimate, difference to the pivot, dagger), what it found in a sentence,
    where the page is, and `next_command`, where there is one to name.  `uncertainty`: what its intervals claim."""
    rows = leaderboard(table)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG)
    for drawn in _tables(rows, console.width):
        console.print(drawn)
    if any(cell.differs for row in rows for cell in row.cells):
        console.print(f"{DAGGER} differs from the pivot after Holm's correction over its column", highlight=False)
    found = headline(rows, (uncertainty or Uncertainty()).confidence)
    if found:
        console.print(visible(found), highlight=False, soft_wrap=True, markup=False)
    where = visible(str(out / "leaderboard.html"))
    console.print(f"report: {where}", highlight=False, soft_wrap=True, markup=False)
    if next_command:
        say_next(*next_command)


def _tables(rows: Sequence[LeaderboardRow], width: int) -> list[Table]:
    """The leaderboard in as many parts as fit side by side into none."""
    names = [escape(visible(row.model)) for row in rows]
    longest = max((Text.from_markup(name).cell_len for name in names), default=0)
    headings = [cell.heading.title for cell in rows[0].cells] if rows else []
    columns = [
        _Column(title=visible(title), cells=[_cell(row.cells[place]) for row in rows])
        for place, title in enumerate(headings)
    ]
    columns.append(_Column(title="unscored", cells=[str(row.unscored) for row in rows]))
    room = width - _GAP - max(column.width for column in columns)
    first = max(_NARROWEST_NAME, min(longest, _WIDEST_NAME, room))
    parts: list[list[_Column]] = [[]]
    left = width - first
    for column in columns:
        needed = column.width + _GAP
        if parts[-1] and needed > left:
            parts.append([])
            left = width - first
        parts[-1].append(column)
        left -= needed
    return [_drawn(rows, names, first, part) for part in parts]


def _drawn(rows: Sequence[LeaderboardRow], names: Sequence[str], first: int, columns: Sequence[_Column]) -> Table:
    drawn = Table(show_edge=False, pad_edge=False)
    drawn.add_column("model", width=first, overflow="fold")
    for column in columns:
        drawn.add_column(escape(column.title), justify="right", no_wrap=True, min_width=column.width)
    group = None
    for place, row in enumerate(rows):
        if group is not None and row.group != group:
            drawn.add_section()
        group = row.group
        drawn.add_row(names[place], *(column.cells[place] for column in columns))
    return drawn


def _cell(cell: TableCell) -> str:
    heading = cell.heading
    value = rounded(cell.value, heading.decimals)
    value = {1: f"[bold]{value}[/]", 2: f"[underline]{value}[/]"}.get(cell.rank, value)
    if cell.difference is not None and heading.ranked:
        value += f" [dim]{rounded(cell.difference, heading.decimals, sign=True)}[/]"
        value += DAGGER if cell.differs else " "
    return value
