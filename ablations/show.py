"""The leaderboard on the terminal, and where the report lies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.report.tables import DAGGER, TableCell, leaderboard, rounded


def show(table: pd.DataFrame, out: Path) -> None:
    """Print the leaderboard of a score table: estimate, difference to the pivot, dagger."""
    rows = leaderboard(table)
    drawn = Table(show_edge=False, pad_edge=False)
    drawn.add_column("model", no_wrap=True)
    for cell in rows[0].cells if rows else []:
        drawn.add_column(cell.heading.title, justify="right", no_wrap=True)
    drawn.add_column("unscored", justify="right")
    group = None
    for row in rows:
        if group is not None and row.group != group:
            drawn.add_section()
        group = row.group
        cells = [_cell(cell) for cell in row.cells]
        drawn.add_row(escape(row.model), *cells, str(row.unscored))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a log keeps whole columns
    console.print(drawn)
    if any(cell.differs for row in rows for cell in row.cells):
        console.print(f"{DAGGER} differs from the pivot after Holm's correction over its column", highlight=False)
    console.print(f"report: {out / 'leaderboard.html'}", highlight=False, soft_wrap=True, markup=False)


def _cell(cell: TableCell) -> str:
    heading = cell.heading
    value = rounded(cell.value, heading.decimals)
    value = {1: f"[bold]{value}[/]", 2: f"[underline]{value}[/]"}.get(cell.rank, value)
    if cell.difference is not None and heading.ranked:
        value += f" [dim]{rounded(cell.difference, heading.decimals, sign=True)}[/]"
        value += DAGGER if cell.differs else " "
    return value
