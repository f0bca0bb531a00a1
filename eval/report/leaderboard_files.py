"""The leaderboard as Markdown, CSV and LaTeX (booktabs), from one set of rows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.judging.estimate import spelt
from eval.markdown import inert, markup_table
from eval.report.tables import DAGGER, LeaderboardRow, TableCell, costs_known, percents, rounded
from eval.spreadsheet import rows_csv
from fusion.runtime.visible import visible

# Letters that TeX acts on.  Two carets begin a letter by its number, and a row's first bracket or star would be an
# argument of the row's end before it.
_LATEX = {
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\symbol{34}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
# Two of these in a row would be one letter, such as a dash.
_LIGATURE = re.compile(r"([-',])(?=\1)")


def markdown(rows: Sequence[LeaderboardRow], notes: Sequence[str]) -> str:
    """A GitHub table: best bold, second underlined, interval and difference to the pivot in each ranked cell."""
    if not rows:
        return "No model was evaluated.\n"
    paid = costs_known(rows)
    titles = ["", *map(inert, _titles(rows)), "unscored", *(["judging"] if paid else [])]
    lines = markup_table(titles, [])
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append("| **" + inert(group) + "** |" + " |" * (len(titles) - 1))
        cells = [inert(row.model), *(_markdown_cell(cell) for cell in row.cells), str(row.unscored)]
        cells += [judging(row)] if paid else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *[f"{inert(note)}\n" for note in notes]])


def wide_csv(rows: Sequence[LeaderboardRow]) -> str:
    """One line per model; for each heading value, bounds, number of items and difference to the pivot, unrounded; last
    the tokens and the money that judging took, where they are known."""
    parts = ("value", "low", "high", "n", "difference", "difference_low", "difference_high", "percent", "p_holm",
             "reason")  # fmt: skip
    headings = [cell.heading for cell in rows[0].cells] if rows else []
    names = [f"{h.benchmark}.{h.metric}.{h.slice}" for h in headings]
    costs = ["judge_tokens", "judge_money"] if costs_known(rows) else []
    lines: list[list[object]] = [
        ["group", "model", "unscored", *(f"{name}.{part}" for name in names for part in parts), *costs]
    ]
    for row in rows:
        values = [getattr(cell, part) for cell in row.cells for part in parts] + [getattr(row, name) for name in costs]
        lines.append([row.group, row.model, row.unscored, *values])
    return rows_csv(lines)


def latex(rows: Sequence[LeaderboardRow], notes: Sequence[str]) -> str:
    r"""A booktabs tabular; needs \usepackage{booktabs}.

    As the papers print it: the estimate, and in parentheses its distance from the pivot's in percent of the pivot's;
    below it the interval in small type.
    """
    titles = [_escape(title) for title in _titles(rows)] if rows else []
    titles += ["unscored", *(["judging"] if costs_known(rows) else [])]
    lines = [
        r"\begin{tabular}{l" + "r" * len(titles) + "}",
        r"\toprule",
        "Model & " + " & ".join(titles) + r" \\",
    ]
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += [r"\midrule", rf"\multicolumn{{{len(titles) + 1}}}{{l}}{{\textit{{{_escape(group)}}}}} \\"]
        cells = [_escape(row.model), *(_latex_cell(cell) for cell in row.cells), str(row.unscored)]
        cells += [_escape(judging(row))] if costs_known(rows) else []
        lines.append(" & ".join(cells) + r" \\")
        if any(cell.low is not None for cell in row.cells):
            bounds = ["", *(_latex_interval(cell) for cell in row.cells), *[""] * (len(titles) - len(row.cells))]
            lines.append(" & ".join(bounds) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {visible(note)}" for note in notes)]) + "\n"


def judging(row: LeaderboardRow) -> str:
    """What judging a model took, in words; an em dash where nothing was counted."""
    if row.judge_tokens is None:
        return "—"
    money = "" if row.judge_money is None else f", {spelt(row.judge_money)}"
    return f"{row.judge_tokens:,} tokens{money}"


def _titles(rows: Sequence[LeaderboardRow]) -> list[str]:
    return [cell.heading.title for cell in rows[0].cells]


def _markdown_cell(cell: TableCell) -> str:
    heading = cell.heading
    if cell.value is None:
        return f"— ({inert(cell.reason)})" if cell.reason else "—"
    text = rounded(cell.value, heading.decimals)
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank, text)
    if cell.low is not None:
        text += f" [{rounded(cell.low, heading.decimals)}, {rounded(cell.high, heading.decimals)}]"
    if cell.difference is not None and heading.ranked:
        text += f" ({rounded(cell.difference, heading.decimals, sign=True)}{DAGGER if cell.differs else ''}"
        text += f", {percents(cell)})" if percents(cell) else ")"
    return text


def _latex_cell(cell: TableCell) -> str:
    heading = cell.heading
    if cell.value is None:
        return "--"
    text = f"{cell.value:.{heading.decimals}f}"
    text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.rank, text)
    if percents(cell):
        mark = r"$^\dagger$" if cell.differs else ""
        text += rf" (${_ascii(percents(cell))[:-1]}$\%){mark}"
    return text


def _latex_interval(cell: TableCell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    low, high = (_ascii(rounded(bound, cell.heading.decimals)) for bound in (cell.low, cell.high))
    return rf"{{\scriptsize $[{low}, {high}]$}}"


def _ascii(number: str) -> str:
    return number.replace("\u2212", "-")


def _escape(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in visible(text))
    return _LIGATURE.sub(r"\1{}", escaped).replace("—", "--")
