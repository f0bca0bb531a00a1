from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ablations.cell import find_cells, read_scored
from ablations.report.__main__ import run
from ablations.report.origins import cells_section
from ablations.studies.pooling import long_table, pooled
from ablations.sweep.files import cells_directory
from eval.records import ItemScore
from eval.report.write import write_report
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow
from fusion.runtime.configure import Refusal

UNCERTAINTY = Uncertainty(seed=0)
QUESTIONS = [str(number) for number in range(6)]


def scored(model: str, group: str, ratings: list[float]) -> ScoredModel:
    items = tuple(
        ItemScore(benchmark="mt_bench", metric="rating", question_id=q, turn=1, category="c", value=value)
        for q, value in zip(QUESTIONS, ratings, strict=True)
    )
    found = mean_interval(ratings, QUESTIONS, UNCERTAINTY)
    row = MetricRow(
        benchmark="mt_bench",
        metric="rating",
        slice="all",
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        unscored=0,
    )
    return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=(row,), items=items)


def cell(where: Path, name: str, *, seed: int, axes: dict[str, str], merged: list[float], weights: str) -> None:
    pivot = scored("pivot", "Pivot", [5.0] * 6)
    write_report([pivot, scored("merged", "Merged", merged)], where / name, title="t", uncertainty=UNCERTAINTY)
    content = {
        "name": name,
        "experiment": "trial",
        "seed": seed,
        "axes": axes,
        "weights": {"pivot": "p", "merged": weights},
    }
    (where / name / "cell.json").write_text(json.dumps(content))


def test_a_cell_is_read_back_as_it_was_scored(tmp_path):
    cell(tmp_path, "a", seed=0, axes={}, merged=[6, 7, 8, 6, 7, 8], weights="m")
    (found,) = find_cells(tmp_path)
    pivot, merged = read_scored(found)
    assert merged.items == scored("merged", "Merged", [6, 7, 8, 6, 7, 8]).items
    assert merged.metrics[0].value == pytest.approx(7.0)
    assert pivot.group == "Pivot"


def test_seeds_are_pooled_and_paired_with_the_model_that_no_seed_changes(tmp_path):
    runs = {"a": [6, 7, 8, 6, 7, 8], "b": [4, 5, 6, 4, 5, 6]}
    for seed, (name, ratings) in enumerate(runs.items()):
        cell(tmp_path, name, seed=seed, axes={}, merged=ratings, weights=f"m{seed}")
    cells = find_cells(tmp_path)
    by_model = {row.label: row.scored for row in pooled(cells, UNCERTAINTY)}
    assert by_model["merged"].metrics[0].value == pytest.approx(np.mean(runs["a"] + runs["b"]))
    assert by_model["merged"].metrics[0].n == 12
    assert by_model["pivot"].metrics[0].n == 6
    table = write_report(list(by_model.values()), tmp_path / "out", title="t", uncertainty=UNCERTAINTY)
    difference = table.loc[table["model"] == "merged", "difference_to_pivot"].iloc[0]
    assert difference == pytest.approx(np.mean(runs["a"] + runs["b"]) - 5)


def test_a_pooled_report_links_to_the_answers_of_each_cell_that_has_some(tmp_path, capsys):
    for name in ("a", "b"):
        cell(tmp_path, name, seed=0, axes={}, merged=[6.0] * 6, weights="m")
    (tmp_path / "a/answers.html").write_text("answers")
    settings = {"cells": str(tmp_path), "out": str(tmp_path / "out"), "report": {}, "paths": {"artifacts": "none"}}
    run(settings)
    page = (tmp_path / "out/leaderboard.html").read_text()
    assert '<a href="../a/answers.html">answers</a>' in page
    assert "../b/cell.json" in page
    assert "../b/answers.html" not in page


def test_a_model_that_an_axis_changes_has_a_row_for_each_value_and_others_one(tmp_path):
    for name, value in (("x", "0.1"), ("y", "0.5")):
        cell(tmp_path, name, seed=0, axes={"merge.sce.tau": value}, merged=[float(value)] * 6, weights=f"m{value}")
    assert [row.label for row in pooled(find_cells(tmp_path), UNCERTAINTY)] == [
        "pivot",
        "merged (merge.sce.tau=0.1)",
        "merged (merge.sce.tau=0.5)",
    ]


def test_the_long_table_names_every_cell_axis_and_seed(tmp_path):
    cell(tmp_path, "x", seed=3, axes={"merge": "ties"}, merged=[6.0] * 6, weights="m")
    cell(tmp_path, "y", seed=4, axes={"align": "em"}, merged=[6.0] * 6, weights="n")
    table = long_table(find_cells(tmp_path))
    assert set(table["cell"]) == {"x", "y"}
    assert set(table["seed"]) == {3, 4}
    assert set(table.loc[table["cell"] == "x", "merge"]) == {"ties"}
    assert set(table.loc[table["cell"] == "x", "align"]) == {""}


def test_a_sweep_is_found_by_its_experiment_and_the_newest_is_taken(tmp_path):
    for time in ("20260101-000000", "20260102-000000"):
        (tmp_path / "sweeps" / "trial" / time).mkdir(parents=True)
    assert cells_directory("trial", tmp_path).name == "20260102-000000"
    with pytest.raises(Refusal, match=r"neither a directory nor a sweep.*there: trial"):
        cells_directory("other", tmp_path)


def test_a_folder_without_a_finished_cell_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"no finished cell"):
        find_cells(tmp_path)


def broken(where: Path, name: str, file: str, content: bytes) -> None:
    """A finished cell of which one file is damaged."""
    cell(where, name, seed=0, axes={"merge": name}, merged=[9.0] * 6, weights=name)
    (where / name / file).write_bytes(content)


DAMAGED = {
    "cut": ("cell.json", b'{"name": "b", "experi'),
    "of another encoding": ("cell.json", '{"name": "b"}'.encode("utf-16")),
    "deep": ("cell.json", b'{"name":' * 9_000),
    "a list": ("cell.json", b"[]"),
    "without a name": ("cell.json", b'{"experiment": "trial", "seed": 0, "axes": {}}'),
    "a seed that is text": ("cell.json", b'{"name": "b", "experiment": "trial", "seed": "0", "axes": {}}'),
    "an axis that is a list": ("cell.json", b'{"name": "b", "experiment": "trial", "seed": 0, "axes": {"merge": []}}'),
    "a stage that is a number": ("cell.json", b'{"name": "b", "experiment": "t", "seed": 0, "axes": {}, "stages": 3}'),
    "a table without columns": ("scores.csv", b"model\npivot\n"),
    "a table of no text": ("items.csv", bytes(200)),
    "a value that is no number": ("scores.csv", b"model,group,benchmark,metric,slice,value,low,high,n,unscored,reason,"
                                  b"variant\npivot,Pivot,mt,rating,all,much,,,1,0,,\n"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "content"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_cell_is_named_and_the_report_of_the_others_goes_on(tmp_path, file, content, capsys):
    cell(tmp_path, "a", seed=0, axes={"merge": "a"}, merged=[6.0] * 6, weights="m")
    broken(tmp_path, "b", file, content)
    settings = {"cells": str(tmp_path), "out": str(tmp_path / "out"), "report": {}, "paths": {"artifacts": "none"}}
    with pytest.warns(UserWarning, match=r"/b\b.*that cell is left out"):
        run(settings)
    assert "| merged |" in (tmp_path / "out/leaderboard.md").read_text()
    assert "left out: " in (tmp_path / "out/leaderboard.html").read_text()


@pytest.mark.parametrize(("file", "content"), [DAMAGED["cut"], DAMAGED["a table of no text"]])
def test_where_every_cell_is_damaged_the_report_is_refused(tmp_path, file, content):
    broken(tmp_path, "b", file, content)
    settings = {"cells": str(tmp_path), "out": str(tmp_path / "out"), "report": {}, "paths": {"artifacts": "none"}}
    with pytest.warns(UserWarning, match="left out"), pytest.raises(Refusal, match="no finished cell"):
        run(settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": "c"}', b'{"name": ' * 9_000, b"\xff"])
def test_a_failure_that_cannot_be_read_is_a_line_of_the_report(tmp_path, content):
    cell(tmp_path, "a", seed=0, axes={}, merged=[6.0] * 6, weights="m")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/failed.json").write_bytes(content)
    section = cells_section(find_cells(tmp_path), tmp_path, tmp_path / "out")
    states = {row[0].text: row[-3].text for row in section.rows}
    assert states["a"] == "finished"
    assert "c/failed.json" in states["c"]
