"""One self-contained HTML page: what was found, the leaderboard, its legend and notes, the plots, further sections.

All text is escaped.  Only this page says when, by which command and by which commit it was made: every other file of a
report is the same each time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

from eval.report.answers_page import anchors
from eval.report.covers import Covers
from eval.report.leaderboard_files import judging
from eval.report.sections import Section, as_html, escaped, figure, framed, header
from eval.report.tables import DAGGER, LeaderboardRow, TableCell, costs_known, percents, rounded
from eval.scored import GROUPS

_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_SORT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_SORT.encode()).digest()).decode()
_POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"


def page(
    title: str,
    rows: Sequence[LeaderboardRow],
    notes: Sequence[str],
    plots: Sequence[str],
    links: Mapping[str, str],
    sections: Sequence[Section],
    *,
    confidence: float,
    covers: Covers,
    headlines: Sequence[str],
    made: Mapping[str, str],
) -> str:
    """The whole page; `plots` are SVG elements, everything else is text and is escaped.

    `links`: labels and addresses of what lies beside the page; with answers.html among them, names of models open it.
    `headlines` are what was found, and `made` when and by what, as labels and values.
    """
    contents = {section.title: f"#{section.anchor}" for section in sections}
    facts = "".join(f"<dt>{escaped(label)}</dt><dd>{escaped(value)}</dd>" for label, value in made.items())
    facts = f'<dl class="facts">{facts}</dl>' if facts else ""
    found = "".join(f'<p class="headline">{escaped(sentence)}</p>\n' for sentence in headlines)
    remarks = "".join(f"<p>{escaped(note)}</p>" for note in notes)
    figures = "\n".join(map(figure, plots))
    below = "\n".join(as_html(section) for section in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">\n'
        f"<style>\n{_STYLE}</style></head>\n"
        f"<body><h1>{escaped(title)}</h1>\n{found}{facts}\n"
        f"<nav>{anchors(links)}</nav>\n{f'<nav>{anchors(contents)}</nav>' if contents else ''}\n"
        f"{_leaderboard(rows, answers='answers.html' in links.values())}\n{_legend(rows, confidence, covers)}\n"
        f'<div class="notes">{remarks}</div>\n{figures}\n{below}\n<script>{_SORT}</script></body></html>\n'
    )


def _leaderboard(rows: Sequence[LeaderboardRow], *, answers: bool) -> str:
    paid = costs_known(rows)
    columns = [cell.heading.title for cell in rows[0].cells] if rows else []
    columns += ["Unscored", *(["Judging"] if paid else [])]
    head = header("Model", "text") + "".join(header(name, "number") for name in columns)
    beside = [row.model for row in rows if row.role == "pivot"]
    body = "\n".join(_row(row, answers=answers, beside=beside, paid=paid) for row in rows)
    return framed("Leaderboard", head, body)


def _row(row: LeaderboardRow, *, answers: bool, beside: Sequence[str], paid: bool) -> str:
    name = escaped(row.model)
    chosen = urlencode([("model", model) for model in dict.fromkeys([*beside, row.model])])
    linked = f'<a href="answers.html#{escaped(chosen)}">{name}</a>' if answers else name
    return (
        f'<tr><th scope="row" data-value="{name}">{linked}<small>{_key(row.group)}</small></th>'
        f"{''.join(_cell(cell) for cell in row.cells)}"
        f'<td data-value="{row.unscored}">{row.unscored}</td>'
        + (f'<td data-value="{row.judge_tokens or ""}">{judging(row)}</td>' if paid else "")
        + "</tr>"
    )


def _key(group: str) -> str:
    """A group beside its colour in the plots."""
    colour = group if group in GROUPS else "Ensembles"
    return f'<span class="key" style="--key: var(--{colour})"></span>{escaped(group)}'


def _cell(cell: TableCell) -> str:
    heading = cell.heading
    if cell.value is None:
        return f'<td data-value="">—<small>{escaped(cell.reason)}</small></td>'
    mark = {1: ' class="best"', 2: ' class="second"'}.get(cell.rank, "")
    text = f"<span{mark}>{rounded(cell.value, heading.decimals)}</span>"
    text += f" ({percents(cell)})" if percents(cell) else ""
    details = []
    if cell.low is not None:
        details.append(f"{rounded(cell.low, heading.decimals)} to {rounded(cell.high, heading.decimals)}")
    if cell.difference is not None and heading.ranked:
        dagger = DAGGER if cell.differs else ""
        details.append(f"Δ {rounded(cell.difference, heading.decimals, sign=True)}{dagger}{_ends_of_difference(cell)}")
    details.append(f"n {cell.n}")
    return f'<td data-value="{cell.value}">{text}' + "".join(f"<small>{d}</small>" for d in details) + "</td>"


def _ends_of_difference(cell: TableCell) -> str:
    if cell.difference_low is None:
        return ""
    bounds = (cell.difference_low, cell.difference_high)
    return f" ({' to '.join(rounded(bound, cell.heading.decimals, sign=True) for bound in bounds)})"


def _legend(rows: Sequence[LeaderboardRow], level: float, covers: Covers) -> str:
    """What the table above shows, by an example of each thing that is in it."""
    columns = zip(*(row.cells for row in rows), strict=True)
    cells = [cell for column in columns for cell in column if cell.value is not None]
    if not cells:
        return ""
    confidence = f"{level:.0%} interval"
    ranked = next((cell for cell in cells if cell.rank == 1), None)
    first = ranked or cells[0]
    compared = next((cell for cell in [first, *cells] if cell.difference is not None and cell.heading.ranked), None)
    decimals = first.heading.decimals
    best = "; the best of a column is bold, the second underlined, by the printed value" if ranked else ""
    sample = rounded(first.value, decimals)
    sample = f'<span class="best">{sample}</span>' if ranked else sample
    meant = [(sample, f"the estimate, here under {first.heading.title}{best}")]
    if first.low is not None:
        ends = f"{rounded(first.low, decimals)} to {rounded(first.high, decimals)}"
        meant.append((ends, f"its {confidence} {covers.intervals}"))
    if compared is not None:
        shift = rounded(compared.difference, compared.heading.decimals, sign=True)
        if percents(compared):
            meant.append(
                (f"({percents(compared)})", "how far the value lies from the pivot's, in percent of the pivot's")
            )
        said = "the difference to the pivot, paired by question"
        ends = _ends_of_difference(compared)
        meant.append((f"Δ {shift}{ends}", f"{said}, with its {confidence}" if ends else said))
    meant.append((f"n {first.n}", "items scored"))
    missing = sum(row.unscored for row in rows)
    meant.append(("Unscored", f"answers that nobody could score, {missing} in all; they enter no mean"))
    if costs_known(rows):
        meant.append(("Judging", "tokens that judges counted, and their price where one is known"))
    groups = " &nbsp; ".join(map(_key, dict.fromkeys(row.group for row in rows)))
    listed = "".join(f"<dt>{sample}</dt><dd>{escaped(text)}</dd>" for sample, text in meant)
    order = "a click on a heading sorts, a third restores this order"
    return f'<dl class="legend">{listed}<dt>Colours</dt><dd>{groups}</dd><dt>Order</dt><dd>by group; {order}</dd></dl>'
