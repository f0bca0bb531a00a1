"""The page: what it says first, a legend of what is on it, how a browser shows it narrow, wide, dark and printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from bench.chromium import Page, browser, find
from eval.records import ItemScore
from eval.report.covers import over_questions
from eval.report.headline import headline
from eval.report.made import artifacts_section, made_now
from eval.report.tables import leaderboard, scores_table
from eval.report.write import write_report
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow
from fusion.runtime.progress import StageRecord
from fusion.runtime.versions import git_commit

UNCERTAINTY = Uncertainty()
GROUPS = {"pivot": "Pivot", "source-a": "Sources", "target-a": "Targets", "sce": "Merged", "linear": "Merged"}
GAINS = {"pivot": 0.0, "source-a": 2.0, "target-a": -0.4, "sce": 0.8, "linear": -0.1}


def rated(name: str) -> ScoredModel:
    """A model with two ratings of each of 20 questions and a gain over the pivot that differs by question."""
    items = tuple(
        ItemScore(
            benchmark="mt_bench",
            metric="rating",
            question_id=str(i),
            turn=t,
            category=f"category-{i % 4}",
            value=4 + i % 5 / 2 + GAINS[name] * (1 + (i + t) % 3 / 4),
        )
        for i in range(20)
        for t in (1, 2)
    )
    rows = []
    for part in ("all", "turn1", "turn2", *(f"category-{i}" for i in range(4))):
        own = [item for item in items if part in ("all", f"turn{item.turn}", item.category)]
        found = mean_interval([item.value for item in own], [item.question_id for item in own], UNCERTAINTY)
        rows.append(
            MetricRow(
                benchmark="mt_bench",
                metric="rating",
                slice=part,
                value=found.value,
                low=found.low,
                high=found.high,
                n=found.n,
                unscored=0,
            )
        )
    return ScoredModel(model=name, group=GROUPS[name], benchmark="mt_bench", metrics=tuple(rows), items=items)


def won(name: str) -> ScoredModel:
    entry = rated(name)
    items = tuple(
        replace(item, benchmark="alpaca_eval", metric="win_rate", value=(item.value or 0) / 10)
        for item in entry.items
        if item.turn == 1
    )
    rate = replace(entry.metrics[0], benchmark="alpaca_eval", metric="win_rate", value=50.0, low=40.0, high=60.0, n=20)
    controlled = replace(rate, metric="length_controlled_win_rate")
    length = replace(rate, metric="average_length", value=100.0 + 10 * len(name), low=90.0, high=200.0)
    return replace(entry, benchmark="alpaca_eval", metrics=(rate, controlled, length), items=items)


def everyone() -> list[ScoredModel]:
    return [*map(rated, GROUPS), *map(won, GROUPS)]


def rows_of(*models: ScoredModel):
    return leaderboard(scores_table(models, uncertainty=UNCERTAINTY))


def test_the_headline_is_the_best_merge_with_its_interval_and_its_difference():
    rows = rows_of(*map(rated, GROUPS))
    cell = next(row for row in rows if row.model == "sce").cells[0]
    assert cell.differs
    leader = next(row for row in rows if row.model == "source-a").cells[0]
    shift = f"+{cell.difference:.2f} (+{cell.difference_low:.2f} to +{cell.difference_high:.2f})"
    assert headline(rows, 0.95) == (
        f"sce, the best merge, has {cell.value:.2f} on MT-Bench (95% interval {cell.low:.2f} to {cell.high:.2f}),"
        f" {shift} to the pivot, a difference that holds among all compared (†);"
        f" source-a leads with {leader.value:.2f}."
    )


def test_a_headline_says_no_more_than_there_is():
    alone = replace(rated("sce"), group="Models")
    found = headline(rows_of(alone), 0.9)
    assert re.fullmatch(r"sce has \d\.\d\d on MT-Bench \(90% interval \d\.\d\d to \d\.\d\d\)\.", found)
    few = replace(rated("linear"), items=rated("linear").items[:8])
    assert "may well be chance" in headline(rows_of(rated("pivot"), few), 0.95)
    assert headline([], 0.95) == ""
    nothing = tuple(replace(row, value=None, low=None, high=None, n=0, reason="none") for row in alone.metrics)
    assert headline(rows_of(replace(alone, metrics=nothing)), 0.95) == ""


def test_an_oracle_is_no_result():
    oracle = replace(rated("source-a"), model="oracle", group="Ensembles", role="oracle", oracle="knows the answer")
    assert "oracle" not in headline(rows_of(rated("pivot"), rated("linear"), oracle), 0.95)


def test_only_the_page_says_when_by_what_command_and_from_which_commit(tmp_path):
    command = ["python", "-m", "ablations", "experiment=pocket", "merge=[linear,ties]"]
    for name, made in (("a", made_now(command)), ("b", {"Made": "at another time"})):
        write_report(everyone(), tmp_path / name, title="Trial", uncertainty=UNCERTAINTY, made=made)
    differing = [
        path.name
        for path in (tmp_path / "a").rglob("*")
        if path.is_file() and path.read_bytes() != (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    ]
    assert differing == ["leaderboard.html"]
    page = (tmp_path / "a/leaderboard.html").read_text()
    assert f"<dd>{shlex.join(command).replace(chr(39), '&#x27;')}</dd>" in page
    assert f"<dt>Commit</dt><dd>{git_commit()}</dd>" in page
    assert re.search(r"<dt>Made</dt><dd>\d{4}-\d\d-\d\d \d\d:\d\d UTC</dd>", page)


def test_every_artifact_leads_to_its_manifest_once(tmp_path):
    (tmp_path / "store/merge/k1").mkdir(parents=True)
    (tmp_path / "store/merge/k1/manifest.json").write_text("{}")
    record = StageRecord(stage="merge", what="sce", key="k1", path=str(tmp_path / "store/merge/k1"))
    gone = replace(record, key="k2", path=str(tmp_path / "gone"))
    (section,) = artifacts_section([record, record, gone], tmp_path / "out")
    assert [[entry.text for entry in row] for row in section.rows] == [
        ["merge", "sce", "k1", ""],
        ["merge", "sce", "k2", ""],
    ]
    assert section.rows[0][3].links == (("manifest", "../store/merge/k1/manifest.json"),)
    assert section.rows[1][3].links == ()
    assert artifacts_section([], tmp_path) == []


def legend_of(page: str) -> str:
    return page[page.index('<dl class="legend">') : page.index("</dl>", page.index('<dl class="legend">'))]


def test_the_legend_explains_what_is_on_the_page_and_nothing_else(tmp_path):
    write_report(everyone(), tmp_path / "all", title="Trial", uncertainty=UNCERTAINTY)
    page = (tmp_path / "all/leaderboard.html").read_text()
    legend = legend_of(page)
    assert "difference to the pivot" in legend
    assert f"95% interval {over_questions(UNCERTAINTY).intervals}" in unescape(legend)
    for group in GROUPS.values():
        assert f"var(--{group})" in legend
    assert "Brackets:" not in page  # those of the Markdown table
    assert "Brackets:" in (tmp_path / "all/leaderboard.md").read_text()
    alone = replace(
        rated("sce"), group="Models", metrics=tuple(replace(r, low=None, high=None) for r in rated("sce").metrics)
    )
    write_report([alone], tmp_path / "one", title="Trial", uncertainty=UNCERTAINTY)
    legend = legend_of((tmp_path / "one/leaderboard.html").read_text())
    assert "pivot" not in legend and "interval" not in legend and "Judging" not in legend


def test_a_plot_says_in_words_what_it_shows_and_every_point_what_it_is(tmp_path):
    write_report(everyone(), tmp_path, title="Trial", uncertainty=UNCERTAINTY)
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.count("<svg") == page.count('<svg role="img" aria-label="')
    difference = (tmp_path / "plots/rating_difference.svg").read_text()
    rows = {row.model: row.cells[0] for row in rows_of(*map(rated, GROUPS))}
    cell = rows["target-a"]
    ends = " to ".join(f"{end:+.2f}".replace("-", "−") for end in (cell.difference_low, cell.difference_high))
    said = f"target-a: {cell.difference:+.2f} ({ends})".replace("-0", "−0")
    assert difference.count(f"<title>{said}</title>") == 2  # the line and the point
    assert "4 models, from target-a" in difference


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    if find() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    out = tmp_path_factory.mktemp("report")
    write_report(everyone(), out, title="Trial", uncertainty=UNCERTAINTY, made=made_now(["python", "-m", "x" * 300]))
    with browser() as page:
        yield page, out / "leaderboard.html"


def shown(tab: tuple[Page, Path], *, width: int, media: str = "", scheme: str = "light") -> Page:
    page, file = tab
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", media=media, features=features)
    page.open(file.as_uri(), "document.readyState == 'complete'")
    return page


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_as_wide_as_the_window_and_the_first_score_is_in_it(tab, width):
    page = shown(tab, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cells = "[...document.querySelector('tbody tr:last-child').cells].map(c => c.getBoundingClientRect().right)"
    edges = page.evaluate(cells)
    assert edges[1] <= width
    if width == 1440:
        assert edges[-1] <= width


def test_heads_and_names_stay_where_a_long_table_is_scrolled(tab):
    page = shown(tab, width=390)
    page.evaluate("document.querySelector('.table').style.maxHeight = '200px'")
    place = "(() => { const b = document.querySelector('{}').getBoundingClientRect(); return [b.left, b.top] })()"
    head, name = "thead th", "tbody tr:last-child th"
    before = [page.evaluate(place.replace("{}", at)) for at in (head, name)]
    page.evaluate("document.querySelector('.table').scrollTo(150, 120)")
    assert page.evaluate("document.querySelector('.table').scrollLeft") == 150
    after = [page.evaluate(place.replace("{}", at)) for at in (head, name)]
    assert after[0] == before[0]
    assert after[1][0] == before[1][0] and after[1][1] == before[1][1] - 120


def luminance(colour: str) -> float:
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_plots_have_the_page_s_paper_and_ink(tab, scheme, dark):
    page = shown(tab, width=1440, scheme=scheme)
    styles = "getComputedStyle(document.querySelector('figure svg {}')).fill"
    paper = luminance(page.evaluate(styles.replace("{}", "#patch_1 path")))
    ink = luminance(page.evaluate(styles.replace("{}", "text")))
    assert (paper < 0.2 and ink > 0.8) if dark else (paper > 0.9 and ink < 0.2)


def test_in_print_nothing_scrolls_or_sticks(tab):
    page = shown(tab, width=1040, media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('thead th')).position") == "static"
    assert page.evaluate("getComputedStyle(document.querySelector('.table')).overflow") == "visible"
    right = "document.querySelector('tbody tr').lastElementChild.getBoundingClientRect().right"
    assert page.evaluate(right) <= 1040
