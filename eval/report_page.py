"""One self-contained HTML page: the leaderboard (sortable), its notes, and the plots; model text is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from eval.tables import Cell, LeaderboardRow, rounded

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 105rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
thead th { border-bottom: 2px solid; cursor: pointer; vertical-align: bottom }
tbody tr { border-bottom: 1px solid #8884 }
small { opacity: .7; display: block }
.best { font-weight: 700 } .second { text-decoration: underline }
figure { display: inline-block; margin: 1rem 1rem 0 0; background: #fff; color: #000 }
"""
_SORT = """
for (const head of document.querySelectorAll('thead th')) head.addEventListener('click', () => {
  const body = head.closest('table').tBodies[0], at = head.cellIndex, down = head.dataset.down !== 'yes';
  head.dataset.down = down ? 'yes' : 'no';
  const key = row => { const raw = row.cells[at].dataset.value; const n = parseFloat(raw);
    return raw === '' ? -Infinity : isNaN(n) ? raw : n };
  const order = (a, b) => { const x = key(a), y = key(b); return x < y ? 1 : x > y ? -1 : 0 };
  [...body.rows].sort((a, b) => down ? order(a, b) : order(b, a)).forEach(row => body.append(row));
});
"""


def page(title: str, rows: Sequence[LeaderboardRow], notes: Sequence[str], plots: Sequence[str]) -> str:
    """The whole page; `plots` are SVG elements, everything else is text and is escaped."""
    headings = [cell.heading for cell in rows[0].cells] if rows else []
    head = "".join(
        f"<th>{html.escape(name)}</th>" for name in ("Group", "Model", *(h.title for h in headings), "Unscored")
    )
    body = "\n".join(_row(row, place) for place, row in enumerate(rows))
    figures = "\n".join(f"<figure>{plot}</figure>" for plot in plots)
    remarks = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
        f"{remarks}\n{figures}\n<script>{_SORT}</script></body></html>\n"
    )


def _row(row: LeaderboardRow, place: int) -> str:
    cells = "".join(_cell(cell) for cell in row.cells)
    return (
        f'<tr><td data-value="{place}">{html.escape(row.group)}</td>'
        f'<td data-value="{html.escape(row.model, quote=True)}">{html.escape(row.model)}</td>{cells}'
        f'<td data-value="{row.unscored}">{row.unscored}</td></tr>'
    )


def _cell(cell: Cell) -> str:
    heading = cell.heading
    if cell.value is None:
        return f'<td data-value="">—<small>{html.escape(cell.reason)}</small></td>'
    mark = {1: ' class="best"', 2: ' class="second"'}.get(cell.rank, "")
    text = f"<span{mark}>{rounded(cell.value, heading.decimals)}</span>"
    details = []
    if cell.low is not None:
        details.append(f"{rounded(cell.low, heading.decimals)} to {rounded(cell.high, heading.decimals)}")
    if cell.difference is not None and heading.ranked:
        bounds = (cell.difference_low, cell.difference_high)
        low, high = (rounded(bound, heading.decimals, sign=True) for bound in bounds)
        details.append(f"Δ pivot {rounded(cell.difference, heading.decimals, sign=True)} ({low} to {high})")
    details.append(f"n {cell.n}")
    return f'<td data-value="{cell.value}">{text}' + "".join(f"<small>{d}</small>" for d in details) + "</td>"
