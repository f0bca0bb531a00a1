"""The self-check as a text table, selfcheck.md and selfcheck.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.markdown import markdown_table
from eval.selfcheck.row import CheckRow
from eval.spreadsheet import rows_csv

COLUMNS = ("benchmark", "model", "quantity", "ours", "published", "difference", "verdict", "note")
# Longer names are cut in the terminal's table.
_WIDEST = 48


def cells(row: CheckRow) -> tuple[str, ...]:
    """What the tables show of a row: figures to six decimals, whole numbers as such, differences in two digits."""
    figures = ("-" if value is None else _figure(value) for value in (row.ours, row.published))
    difference = "-" if row.difference is None else f"{row.difference:+.1e}" if row.difference else "0"
    return (row.benchmark, row.model, row.quantity, *figures, difference, "ok" if row.ok else "off", row.note)


def summary(rows: Sequence[CheckRow]) -> str:
    """One sentence: how many figures agree."""
    off = sum(not row.ok for row in rows)
    models = len({(row.benchmark, row.model) for row in rows})
    return f"{len(rows) - off} of {len(rows)} published figures of {models} models agree, {off} are off"


def text(rows: Sequence[CheckRow]) -> str:
    """Aligned columns for a terminal."""
    table = [COLUMNS, *((*map(_short, cells(row)[:-1]), row.note) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def write(rows: Sequence[CheckRow], out: Path) -> None:
    """Write selfcheck.md, and selfcheck.csv with unrounded figures, into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["# Self-check", "", f"{summary(rows)}.", "", *markdown_table(COLUMNS, map(cells, rows))]
    (out / "selfcheck.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figured: list[list[object]] = [[*COLUMNS, "tolerance"]]
    for row in rows:
        verdict = "ok" if row.ok else "off"
        figures = (row.ours, row.published, row.difference)
        figured.append([row.benchmark, row.model, row.quantity, *figures, verdict, row.note, row.tolerance])
    (out / "selfcheck.csv").write_text(rows_csv(figured), encoding="utf-8")


def _figure(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.6f}"


def _short(cell: str) -> str:
    return cell if len(cell) <= _WIDEST else cell[: _WIDEST - 1] + "…"
