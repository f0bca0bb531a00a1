"""Names from strangers in Markdown, read back by a CommonMark parser with GitHub's tables: text, and nothing else."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from eval.markdown import inert, markdown_table
from fusion.runtime.visible import visible

NAMES = (
    "a | b\nnext <img src=x onerror=alert(1)>",
    "back\\|slash",
    "**bold** _it_ ~~gone~~ `code` $x$",
    "[click](javascript:alert(1))",
    "![i](http://evil/x.png)",
    "&lt;b&gt; &#60;",
    "# head",
    "- item",
    "12. item",
    "> said",
    "    indented",
    "---",
    "http://evil.example www.evil.example",
    "\x1b[31mred\x07 \u202egnp",
)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def cells_of(page: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"<td>(.*?)</td>", page, re.DOTALL)]


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_shows_a_name_and_stays_one_cell(name):
    page = MARKDOWN.render("\n".join(markdown_table(("model", "n"), [(name, "1"), ("other", "2")])))
    assert cells_of(page) == [visible(name).strip(), "1", "other", "2"]
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td)>)", page)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_that_begins_with_a_name_is_a_paragraph(name):
    page = MARKDOWN.render(inert(f"{name} is an oracle."))
    assert html.unescape(page) == f"<p>{visible(name).lstrip()} is an oracle.</p>\n"


@given(st.text(max_size=40))
@example("_")
@example("a_b_c")
@example("\\")
def test_any_text_is_one_cell_that_shows_it(text):
    page = MARKDOWN.render("\n".join(markdown_table(("a", "b"), [(f"x{text}y", "end")])))
    (shown, end) = cells_of(page)
    assert shown == f"x{visible(text)}y"
    assert end == "end"


@pytest.mark.parametrize(
    "plain",
    [
        "source-numbers",
        "average_ce (align=byte_span, seed=1)",
        "MT-Bench, mean of the targets: +0.19 [+0.09, +0.29] to sft.",
        "AlpacaEval win rate %: about 5.1.",
        "alpaca_eval length_controlled_win_rate is the variant own_set: comparable with the same variant only.",
        "Qwen/Qwen3-0.6B & R&D",
    ],
)
def test_ordinary_names_and_sentences_are_written_as_they_are(plain):
    assert inert(plain) == plain
