"""Tables and sentences in Markdown, in which text of others stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fusion.runtime.visible import visible

# What Markdown, GitHub's tables, its formulas and the HTML within it would read as more than a letter.
_MARKUP = re.compile(
    r"""
    [\\`*|~$]              # escapes, code, emphasis, cells, strikes, formulas
    | (?<![^\W_])_         # emphasis, but within a word
    | _(?![^\W_])
    | \](?=[(\[:])         # the middle of a link
    | ^(?=[#>+=-](\s|$|[#>+=-]))   # what would begin a heading, a quotation, a list or a line
    """,
    re.VERBOSE,
)
_NUMBERED = re.compile(r"^(\d+)(?=[.)](\s|$))")
# Entities, for what is no markup of Markdown's own, and addresses that become links by themselves.
_ENTITIES = (
    (re.compile(r"&(?=#?\w+;)"), "&amp;"),
    (re.compile("<"), "&lt;"),
    (re.compile(r"(?<=\w):(?=//)"), "&#58;"),
    (re.compile(r"(?i)(?<=www)\."), "&#46;"),
)


def inert(text: str) -> str:
    """One line of Markdown that shows the text as it is."""
    text = text.lstrip(" ")
    for found, entity in _ENTITIES:
        text = found.sub(entity, text)
    return visible(_NUMBERED.sub(r"\1\\", _MARKUP.sub(lambda found: "\\" + found.group(), text)))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The table's lines; every cell is shown as it is."""
    return markup_table(map(inert, columns), (map(inert, row) for row in rows))


def markup_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The same of cells that are Markdown already."""
    heads = list(columns)
    return [_line(heads), "|" + "---|" * len(heads), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
