"""The leaderboard as Markdown, CSV and LaTeX (booktabs), from one set of rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from eval.tables import DAGGER, Cell, LeaderboardRow, rounded

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}


def markdown(rows: Sequence[LeaderboardRow], notes: Sequence[str]) -> str:
    """A GitHub table: best bold, second underlined, interval and difference to the pivot in each ranked cell."""
    if not rows:
        return "No model was evaluated.\n"
    titles = ["", *_titles(rows), "unscored"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append("| **" + group + "** |" + " |" * (len(titles) - 1))
        cells = [row.model, *(_markdown_cell(cell) for cell in row.cells), str(row.unscored)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *[f"{note}\n" for note in notes]])


def wide_csv(rows: Sequence[LeaderboardRow]) -> str:
    """One line per model; for each heading value, bounds, number of items and difference to the pivot, unrounded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    parts = ("value", "low", "high", "n", "difference", "difference_low", "difference_high", "p_holm", "reason")
    headings = [cell.heading for cell in rows[0].cells] if rows else []
    names = [f"{h.benchmark}.{h.metric}.{h.slice}" for h in headings]
    writer.writerow(["group", "model", "unscored", *(f"{name}.{part}" for name in names for part in parts)])
    for row in rows:
        values = ["" if (value := getattr(cell, part)) is None else value for cell in row.cells for part in parts]
        writer.writerow([row.group, row.model, row.unscored, *values])
    return stream.getvalue()


def latex(rows: Sequence[LeaderboardRow], notes: Sequence[str]) -> str:
    r"""A booktabs tabular; needs \usepackage{booktabs}.  Differences to the pivot stand in small type."""
    titles = _titles(rows) if rows else []
    lines = [
        r"\begin{tabular}{l" + "r" * len(titles) + "}",
        r"\toprule",
        "Model & " + " & ".join(_escape(title) for title in titles) + r" \\",
    ]
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += [r"\midrule", rf"\multicolumn{{{len(titles) + 1}}}{{l}}{{\textit{{{_escape(group)}}}}} \\"]
        cells = [_escape(row.model), *(_latex_cell(cell) for cell in row.cells)]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _titles(rows: Sequence[LeaderboardRow]) -> list[str]:
    return [cell.heading.title for cell in rows[0].cells]


def _markdown_cell(cell: Cell) -> str:
    heading = cell.heading
    if cell.value is None:
        return f"— ({cell.reason})" if cell.reason else "—"
    text = rounded(cell.value, heading.decimals)
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank, text)
    if cell.low is not None:
        text += f" [{rounded(cell.low, heading.decimals)}, {rounded(cell.high, heading.decimals)}]"
    if cell.difference is not None and heading.ranked:
        text += f" ({rounded(cell.difference, heading.decimals, sign=True)}{DAGGER if cell.differs else ''})"
    return text


def _latex_cell(cell: Cell) -> str:
    heading = cell.heading
    if cell.value is None:
        return "--"
    text = f"{cell.value:.{heading.decimals}f}"
    text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.rank, text)
    if cell.difference is not None and heading.ranked:
        mark = r"^\dagger" if cell.differs else ""
        text += rf" {{\scriptsize ${cell.difference:+.{heading.decimals}f}{mark}$}}"
    return text


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text.replace("\\", "/"))
