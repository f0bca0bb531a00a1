"""The figures of the pocket's table in the pages are those of its kept baseline: a table left behind fails here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from ablations.regression.pages import table_in
from ablations.regression.scores import read_scores
from eval.report.tables import Heading, headings, rounded

ROOT = Path(__file__).parent.parent
BASELINE = Path("eval/baselines/pocket.json")
KEPT = read_scores(ROOT / BASELINE)
HEADINGS = {heading.title: heading for heading in headings(KEPT)}
POCKET = table_in(ROOT / "docs/pocket.md", BASELINE)
README = (ROOT / "README.md").read_text()  # a table of it, where it has one, is of the same run
# value [low, high] (difference to the pivot and its mark, in percent)
CELL = re.compile(
    r"(?P<value>\S+)(?: \[(?P<low>\S+), (?P<high>\S+)\])?(?: \((?P<to>[^†,)]+)†?(?:, (?P<by>[^)]+)%)?\))?"
)


@dataclass(frozen=True)
class Row:
    """One model's cells by the titles of their columns."""

    model: str
    cells: Mapping[str, str]


def tables(text: str) -> Iterator[list[Row]]:
    """The Markdown tables among whose columns is one of the leaderboard's, without the rows that name groups."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, _, *lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        if HEADINGS.keys() & set(head):
            rows = [line for line in lines if any(line[1:])]
            yield [Row(line[0], dict(zip(head[1:], line[1:], strict=True))) for line in rows]


def kept(model: str, heading: Heading) -> pd.Series | None:
    place = (KEPT["model"] == model) & (KEPT["benchmark"] == heading.benchmark)
    found = KEPT[place & (KEPT["metric"] == heading.metric) & (KEPT["slice"] == heading.slice)]
    return found.iloc[0] if len(found) else None


def unscored(model: str) -> str:
    mains = KEPT[(KEPT["model"] == model) & (KEPT["slice"] == "all") & KEPT["metric"].isin(["rating", "win_rate"])]
    return str(mains["unscored"].sum())


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def faults(row: Row) -> list[str]:
    """Every figure of a row that the baseline does not have."""
    found = []
    for title, text in row.cells.items():
        if title == "unscored":
            found += [] if text == unscored(row.model) else [f"{row.model}: {text} unscored"]
            continue
        said, where = CELL.fullmatch(re.sub(r"\*\*|</?u>", "", text)), f"{row.model}, {title}: {text}"
        ours = kept(row.model, HEADINGS[title]) if title in HEADINGS else None
        if said is None or ours is None:
            found.append(f"{where} is not in the baseline")
            continue
        decimals = HEADINGS[title].decimals
        interval = [None if pd.isna(ours[end]) else rounded(ours[end], decimals) for end in ("low", "high")]
        if [said["value"], said["low"], said["high"]] != [rounded(ours["value"], decimals), *interval]:
            found.append(f"{where}, and the baseline {ours['value']} [{ours['low']}, {ours['high']}]")
        if said["to"]:
            pivot = kept("pivot", HEADINGS[title])
            assert pivot is not None
            gap = ours["value"] - pivot["value"]
            half = (
                0.5 * 10**-decimals + 1e-6
            )  # of the last digit: all questions are scored, so means differ as pairs do
            if abs(number(said["to"]) - gap) > half:
                found.append(f"{where}, and the baseline differs by {gap}")
            if said["by"] and abs(number(said["by"]) - 100 * gap / pivot["value"]) > 0.005 + 1e-6:
                found.append(f"{where}, and the baseline differs by {100 * gap / pivot['value']}%")
    return found


@pytest.mark.parametrize("text", [POCKET, README], ids=["docs/pocket.md", "README.md"])
def test_every_figure_of_the_table_is_the_baseline_s(text: str):
    assert [fault for table in tables(text) for row in table for fault in faults(row)] == []


def test_the_pocket_s_page_has_every_model_and_column_of_the_baseline():
    (table,) = tables(POCKET)
    assert {row.model for row in table} == set(KEPT["model"])
    assert all(row.cells.keys() == {*HEADINGS, "unscored"} for row in table)


def other(figure: str) -> str:
    """A figure with another last digit."""
    return figure[:-1] + str((int(figure[-1]) + 1) % 10)


@pytest.mark.parametrize("part", ["value", "low", "high", "to", "by"])
def test_a_figure_that_was_left_behind_is_found(part: str):
    (table,) = tables(POCKET)
    row = next(row for row in table if row.model.startswith("source-"))
    cell = row.cells["MT-Bench"]
    said = CELL.fullmatch(cell)
    assert said is not None and faults(row) == []
    stale = cell[: said.start(part)] + other(said[part]) + cell[said.end(part) :]
    assert len(faults(Row(row.model, {**row.cells, "MT-Bench": stale}))) == 1


def test_a_row_a_column_or_an_interval_without_the_baseline_s_is_found():
    (table,) = tables(POCKET)
    row = next(row for row in table if row.model == "pivot")
    cell = row.cells["MT-Bench"]
    assert faults(row) == []
    assert len(faults(Row("nobody", {"MT-Bench": cell}))) == 1
    assert len(faults(Row("pivot", {"MT-Bench of another year": cell}))) == 1
    assert len(faults(Row("pivot", {"MT-Bench": cell.split(" [")[0]}))) == 1
    assert len(faults(Row("pivot", {**row.cells, "unscored": "1"}))) == 1
