"""One self-contained HTML page: the leaderboard, its notes, the plots, further sections; model text is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from eval.report.answers_page import anchors
from eval.report.leaderboard_files import judging
from eval.report.sections import Section, as_html, header
from eval.report.tables import DAGGER, LeaderboardRow, TableCell, costs_known, percents, rounded

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 105rem; padding: 0 1rem }
nav a { margin-right: 1rem }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; margin-top: 1rem }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap }
th[data-kind], td.text { text-align: left }
td.text { white-space: normal; max-width: 40rem } td a { white-space: nowrap }
thead th { border-bottom: 2px solid; vertical-align: bottom }
thead button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0 }
thead button { cursor: pointer }
th[aria-sort=descending] button::after { content: " ↓" } th[aria-sort=ascending] button::after { content: " ↑" }
tbody tr { border-bottom: 1px solid #8884 }
small { opacity: .7; display: block }
.best { font-weight: 700 } .second { text-decoration: underline }
figure { display: inline-block; vertical-align: top; margin: 1rem 1rem 0 0; max-width: 100% }
figure { background: #fff; color: #000 }
figure svg { max-width: 100%; height: auto }
section { margin-top: 2.5rem; border-top: 1px solid #8884 }
summary { cursor: pointer }
"""
# A first click sorts numbers from the largest and names from A; what has no number stays last either way.
_SORT = """
for (const button of document.querySelectorAll('thead button')) button.addEventListener('click', () => {
  const head = button.closest('th'), body = head.closest('table').tBodies[0], at = head.cellIndex;
  const rows = [...body.rows], kind = head.dataset.kind;
  const before = head.getAttribute('aria-sort');
  const down = before ? before === 'ascending' : !kind;
  for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const raw = row => row.cells[at].dataset.value, sign = down ? -1 : 1;
  const order = kind === 'text' ? (a, b) => sign * raw(a).localeCompare(raw(b), 'en', {numeric: true}) : (a, b) =>
    raw(a) === '' || raw(b) === '' ? (raw(a) === '') - (raw(b) === '') : sign * (raw(a) - raw(b));
  body.append(...rows.sort(order));
});
"""
_DIGEST = base64.b64encode(hashlib.sha256(_SORT.encode()).digest()).decode()
_POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"


def page(
    title: str,
    rows: Sequence[LeaderboardRow],
    notes: Sequence[str],
    plots: Sequence[str],
    links: Mapping[str, str],
    sections: Sequence[Section] = (),
) -> str:
    """The whole page; `plots` are SVG elements, everything else is text and is escaped.

    `links`: labels and addresses of what lies beside the page; with answers.html among them, names of models open it.
    """
    paid = costs_known(rows)
    columns = [cell.heading.title for cell in rows[0].cells] if rows else []
    columns += ["Unscored", *(["Judging"] if paid else [])]
    head = header("Group", "place") + header("Model", "text") + "".join(header(name, "number") for name in columns)
    answers = "answers.html" in links.values()
    beside = [row.model for row in rows if row.role == "pivot"]
    body = "\n".join(_row(row, place, answers=answers, beside=beside, paid=paid) for place, row in enumerate(rows))
    figures = "\n".join(f"<figure>{plot}</figure>" for plot in plots)
    remarks = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    contents = {section.title: f"#{section.anchor}" for section in sections}
    below = "\n".join(as_html(section) for section in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n<nav>{anchors(links)}</nav>\n"
        f"{f'<nav>{anchors(contents)}</nav>' if contents else ''}\n"
        f'<div class="table"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n'
        f"{remarks}\n{figures}\n{below}\n<script>{_SORT}</script></body></html>\n"
    )


def _row(row: LeaderboardRow, place: int, *, answers: bool, beside: Sequence[str], paid: bool) -> str:
    cells = "".join(_cell(cell) for cell in row.cells)
    name = html.escape(row.model, quote=True)
    chosen = urlencode([("model", model) for model in dict.fromkeys([*beside, row.model])])
    linked = f'<a href="answers.html#{html.escape(chosen, quote=True)}">{name}</a>'
    return (
        f'<tr><td class="text" data-value="{place}">{html.escape(row.group)}</td>'
        f'<td class="text" data-value="{name}">{linked if answers else name}</td>{cells}'
        f'<td data-value="{row.unscored}">{row.unscored}</td>'
        + (f'<td data-value="{row.judge_tokens or ""}">{judging(row)}</td>' if paid else "")
        + "</tr>"
    )


def _cell(cell: TableCell) -> str:
    heading = cell.heading
    if cell.value is None:
        return f'<td data-value="">—<small>{html.escape(cell.reason)}</small></td>'
    mark = {1: ' class="best"', 2: ' class="second"'}.get(cell.rank, "")
    text = f"<span{mark}>{rounded(cell.value, heading.decimals)}</span>"
    text += f" ({percents(cell)})" if percents(cell) else ""
    details = []
    if cell.low is not None:
        details.append(f"{rounded(cell.low, heading.decimals)} to {rounded(cell.high, heading.decimals)}")
    if cell.difference is not None and heading.ranked:
        bounds = (cell.difference_low, cell.difference_high)
        low, high = (rounded(bound, heading.decimals, sign=True) for bound in bounds)
        dagger = DAGGER if cell.differs else ""
        details.append(f"Δ pivot {rounded(cell.difference, heading.decimals, sign=True)}{dagger} ({low} to {high})")
    details.append(f"n {cell.n}")
    return f'<td data-value="{cell.value}">{text}' + "".join(f"<small>{d}</small>" for d in details) + "</td>"
