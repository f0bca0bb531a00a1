"""Names and reasons from strangers in every file of a report: shown, and nothing more."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from eval.records import ItemScore
from eval.report.leaderboard_files import latex, markdown, wide_csv
from eval.report.tables import LeaderboardRow, leaderboard, scores_table
from eval.report.write import write_report
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow
from eval.spreadsheet import read_csv
from fusion.runtime.visible import visible

UNCERTAINTY = Uncertainty()
NAMES = (
    "^^5cinput^^7b/etc/passwd^^7d",
    r"\input{/etc/passwd}",
    "[2pt] *x",
    "%end\n\\input{x}",
    '=HYPERLINK("http://x","y")',
    "</td><script>document.title=1</script>",
    "\x1b]0;owned\x07 a|b",
    "'=2",
    "L" * 5000,
    "models--owner--name '' \"q\" ?`",
    "\uff1d1+1",
    "\n=1+1",
    "no \ufffe\U0001fffe\u2060\u00adcharacter",
)
# Read from the left, as TeX does: what is escaped, or a letter that TeX only prints.
_PRINTED = re.compile(
    r"\\[&%_#${}]|\\text(?:asciitilde|asciicircum|backslash|less|greater|bar|asciigrave)\{\}|\\symbol\{34\}"
    r"|\{[\[\]*]\}|([-',])(\{\}|(?!\1))|[^\\{}$&#^_%~\"'`,-]"
)


def model(name: str, ratings: list[float]) -> ScoredModel:
    items = tuple(
        ItemScore(benchmark="mt_bench", metric="rating", question_id=str(i), turn=1, category="c", value=value)
        for i, value in enumerate(ratings)
    )
    row = MetricRow(benchmark="mt_bench", metric="rating", slice="all", value=sum(ratings) / 4, n=4, unscored=0)
    none = replace(row, slice="turn2", value=None, reason=f"no reply of {name}")
    return ScoredModel(model=name, group="Models", benchmark="mt_bench", metrics=(row, none), items=items)


@pytest.fixture
def everyone() -> list[ScoredModel]:
    return [model("pivot", [5, 6, 5, 6]), *(model(name, [6, 7, 6, 8]) for name in NAMES)]


@pytest.mark.parametrize("name", NAMES)
def test_tex_prints_a_name_and_runs_nothing(name):
    row = LeaderboardRow(group=name, model=name, role="", unscored=0, cells=())
    text = latex([row], [f"note on {name}"])
    lines = text.splitlines()
    (line,) = [line for line in lines if line.endswith(r" & 0 \\")]
    shown = line.removesuffix(r" & 0 \\")
    assert _PRINTED.sub("", shown) == ""
    assert not shown.startswith(("[", "*"))
    assert len([one for one in lines if one.startswith("%")]) == 1
    assert lines[-1] == f"% note on {visible(name)}"


def test_the_tables_hold_as_many_rows_and_cells_as_there_are(everyone):
    rows = leaderboard(scores_table(everyone, uncertainty=UNCERTAINTY))
    page = markdown(rows, [])
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 1 + len(everyone)  # heads, their rule, the group, the models
    cells = {len(re.sub(r"\\.", "", line).split("|")) for line in lines if "---" not in line}
    assert len(cells) == 1
    assert "<script" not in page
    table = list(csv.reader(wide_csv(rows).splitlines()))
    assert not any(cell.startswith(("=", "@", "\t")) for line in table for cell in line)


def test_every_file_of_a_report_is_inert_and_names_come_back(everyone, tmp_path):
    write_report(everyone, tmp_path, title=f"Evaluation of {NAMES[0]}", uncertainty=UNCERTAINTY)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u2060\ufffe]", text), path.name
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.count("<script") == 1
    for drawing in tmp_path.glob("plots/*.svg"):
        root = ElementTree.fromstring(drawing.read_text())
        assert float(root.attrib["width"].removesuffix("pt")) < 72 * 15, "a long name widens the plot without end"
    kept = {row["model"] for row in read_csv(tmp_path / "scores.csv")}
    assert kept == {"pivot", *(visible(name, lines=True) for name in NAMES)}
    for name in ("scores.csv", "items.csv", "leaderboard.csv"):
        with (tmp_path / name).open(newline="") as stream:
            cells = [cell for line in csv.reader(stream) for cell in line]
        assert not any(re.match(r"\s*[=@＝]|[\t\r\n]", cell) for cell in cells), name
