"""A part of a report below the leaderboard: sentences, a table, plots; as HTML and as Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from eval.markdown import inert, markup_table
from fusion.runtime.visible import visible


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell of a table: what it says, the number it is sorted by (none: its text), links (label and address)."""

    text: str = ""
    number: float | None = None
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """`figures` are SVG elements; everything else is text and is escaped.  `numeric` names the columns of numbers,
    where what has no number stays last however the table is sorted; `folded` hides the table until it is asked for.
    """

    title: str
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    numeric: frozenset[str] = frozenset()
    rows: Sequence[Sequence[Entry]] = field(default=())
    figures: tuple[str, ...] = ()
    folded: bool = False

    @property
    def anchor(self) -> str:
        """Its place in the page."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def as_html(section: Section) -> str:
    """The section with its heading; the page's script sorts its table."""
    notes = "".join(f"<p>{escaped(note)}</p>" for note in section.notes)
    figures = "\n".join(map(figure, section.figures))
    table = _table(section) if section.rows else ""
    if section.folded and table:
        table = f"<details><summary>{len(section.rows)} rows</summary>{table}</details>"
    return f'<section id="{section.anchor}"><h2>{escaped(section.title)}</h2>\n{notes}{table}\n{figures}</section>'


def as_markdown(section: Section) -> str:
    """The section without its plots."""
    lines = [f"## {inert(section.title)}", ""]
    if section.rows:
        rows = [[_linked(entry) for entry in row] for row in section.rows]
        lines += [*markup_table(map(inert, section.columns), rows), ""]
    return "\n".join([*lines, *(f"{inert(note)}\n" for note in section.notes)])


def figure(plot: str) -> str:
    """A plot as the page shows it: its black and white are those of the page, which has a dark mode."""
    for named, of_page in (("#000000", "currentColor"), ("#ffffff", "Canvas")):
        plot = plot.replace(f": {named}", f": {of_page}")
    return f"<figure>{plot}</figure>"


def framed(label: str, head: str, rows: str) -> str:
    """A table from the cells of its head and from its rows, in a frame of its own that scrolls."""
    return (
        f'<div class="table" role="region" aria-label="{escaped(label)}" tabindex="0">\n'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def header(name: str, kind: Literal["number", "text"]) -> str:
    """A column's head; pressing it sorts by the column: numbers first from the largest, texts from A."""
    said = "" if kind == "number" else f' data-kind="{kind}"'
    return f'<th scope="col"{said}><button type="button">{escaped(name)}</button></th>'


def escaped(text: str) -> str:
    """Text as HTML shows it, within an attribute too."""
    return html.escape(visible(text), quote=True)


def _table(section: Section) -> str:
    head = "".join(header(name, "number" if name in section.numeric else "text") for name in section.columns)
    rows = "\n".join(
        "<tr>"
        + "".join(_cell(entry, name in section.numeric) for name, entry in zip(section.columns, row, strict=True))
        + "</tr>"
        for row in section.rows
    )
    return framed(section.title, head, rows)


def _cell(entry: Entry, numeric: bool) -> str:
    value = ("" if entry.number is None else str(entry.number)) if numeric else entry.text
    links = " ".join(f'<a href="{escaped(address)}">{escaped(label)}</a>' for label, address in entry.links)
    kind = "" if numeric else ' class="text"'
    return f'<td{kind} data-value="{escaped(value)}">{escaped(entry.text)}{links}</td>'


def _linked(entry: Entry) -> str:
    links = (f"[{inert(label)}](<{inert(address)}>)" for label, address in entry.links)
    return " ".join([inert(entry.text), *links]).strip()
