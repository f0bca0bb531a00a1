"""Runs as draws: what pooled tables, studies and their pages say of five of them, of fewer, and of one repeated."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.cell import find_cells
from ablations.report.pooled import write_pooled_report
from ablations.studies import STUDIES
from ablations.studies.arms import ArmChoice
from ablations.studies.findings import reading, write_findings
from ablations.studies.pooling import PooledRow, pooled
from ablations.studies.replication import Runs, covers, runs_of
from ablations.studies.study import Claim, Study
from eval.report.comparisons import compared
from eval.scores.crossed import crossed_interval, crossed_mean
from eval.scores.intervals import Uncertainty, mean_interval

UNCERTAINTY = Uncertainty(seed=0)
QUESTIONS = 12
PIVOT = np.random.default_rng(0).uniform(3, 7, size=(8, QUESTIONS)).round(2)
SCE = (PIVOT + np.random.default_rng(1).normal(1, 0.5, size=(8, QUESTIONS))).round(2)
STUDY = Study(
    question="Which rule?",
    claim=Claim("b beats a.", source="nobody", arm=ArmChoice(model="sce", axes={"rule": "b"})),
    held=("questions",),
    models=("sce", "linear"),
    reference=ArmChoice(axes={"rule": "a"}),
    limits="nothing beyond this test.",
)


def cells(where: Path, cell: Callable[..., Path], seeds: int, *, same_pivot: bool = False) -> Path:
    """A cell for each seed, a merge better than its pivot in all; weights differ where scores do."""
    for seed in range(seeds):
        cell(where, {"pivot": [*PIVOT[0 if same_pivot else seed]], "sce": [*SCE[seed]]}, seed=seed)
    return where


def rows(where: Path) -> dict[str, PooledRow]:
    return {row.model: row for row in pooled(find_cells(where), UNCERTAINTY)}


def whole(row: PooledRow) -> tuple[float | None, float | None, float | None]:
    (found,) = [metric for metric in row.scored.metrics if metric.slice == "all"]
    return found.value, found.low, found.high


def test_five_draws_have_an_interval_over_draws_and_questions(tmp_path, cell):
    found = rows(cells(tmp_path, cell, 5))["sce"]
    expected = crossed_interval(SCE[:5], ends=(1.0, 10.0))
    assert found.draws == 5
    assert whole(found) == pytest.approx((expected.value, expected.low, expected.high))


def test_four_have_one_over_questions_only(tmp_path, cell):
    found = rows(cells(tmp_path, cell, 4))["sce"]
    expected = mean_interval(SCE[:4].T.ravel(), np.repeat(range(QUESTIONS), 4).tolist(), UNCERTAINTY, ends=(1.0, 10.0))
    assert found.draws == 4
    assert whole(found) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_run_that_is_repeated_is_no_further_draw(tmp_path, cell):
    """As a given pivot under five training seeds, and as a seed whose weights came out as another's."""
    for seed, place in enumerate([0, 1, 2, 3, 3, 3]):
        cell(tmp_path, {"pivot": [*PIVOT[0]], "sce": [*SCE[place]]}, seed=seed)
    found = rows(tmp_path)
    assert (found["pivot"].draws, found["sce"].draws) == (1, 4)
    alone = mean_interval(PIVOT[0], range(QUESTIONS), UNCERTAINTY)
    assert whole(found["pivot"]) == pytest.approx((alone.value, alone.low, alone.high))
    (difference,) = compared([(found["sce"].scored, found["pivot"].scored)], "rating", "all", UNCERTAINTY)
    assert difference is not None
    assert (difference.sampled.draws, difference.sampled.over) == (4, "questions")


def test_of_six_runs_one_of_them_repeated_five_are_counted(tmp_path, cell):
    for seed, place in enumerate([0, 1, 2, 3, 4, 0]):
        cell(tmp_path, {"pivot": [*PIVOT[place]], "sce": [*SCE[place]]}, seed=seed)
    expected = crossed_interval(SCE[:5], ends=(1.0, 10.0))
    assert whole(rows(tmp_path)["sce"]) == pytest.approx((expected.value, expected.low, expected.high))


@pytest.mark.parametrize("same_pivot", [False, True])
def test_differences_are_paired_on_the_same_draw_and_question(tmp_path, cell, same_pivot):
    found = rows(cells(tmp_path, cell, 5, same_pivot=same_pivot))
    (difference,) = compared([(found["sce"].scored, found["pivot"].scored)], "rating", "all", UNCERTAINTY)
    table = SCE[:5] - (PIVOT[:1] if same_pivot else PIVOT[:5])
    run, question = np.indices(table.shape)
    expected = crossed_mean(table.ravel(), run.ravel().tolist(), question.ravel().tolist())
    assert difference is not None
    assert (difference.sampled.draws, difference.sampled.over) == (5, "draws and questions")
    assert difference.p == pytest.approx(expected.p)
    assert (difference.difference.low, difference.difference.high) == pytest.approx(
        (expected.mean.low, expected.mean.high)
    )


def test_base_models_are_drawn_where_no_seed_shares_them_with_another(tmp_path, cell):
    assert runs_of(find_cells(cells(tmp_path / "drawn", cell, 5))) == Runs(base_models=True)
    assert runs_of(find_cells(cells(tmp_path / "given", cell, 5, same_pivot=True))) == Runs(base_models=False)
    assert runs_of(find_cells(cells(tmp_path / "one", cell, 1))) == Runs(base_models=False)


def test_a_table_says_what_its_intervals_cover():
    drawn, trained = Runs(base_models=True), Runs(base_models=False)

    def said(draws: dict[str, int], runs: Runs = drawn) -> str:
        return covers(draws, runs, UNCERTAINTY).intervals

    assert said({"a": 5, "b": 5}) == "over draws of the base models and questions, crossed (5 draws)"
    assert said({"a": 5}, trained) == ("over trainings from the same base models and questions, crossed (5 trainings)")
    assert said({"a": 3, "b": 3}).startswith("over questions only: 3 runs are too few")
    assert said({"a": 1}).startswith("over questions only: 1 run is too few")
    assert said({"a": 8, "b": 5, "pivot": 1}).endswith(
        "crossed (5 to 8 draws); over questions only for pivot, with fewer than 5 draws that differ"
    )
    tests = covers({"a": 5, "pivot": 1}, drawn, UNCERTAINTY).tests
    assert tests.startswith(
        "Student's t test over draws and questions, and with fewer than 5 draws the sign-flip test by"
    )


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (5, "95% interval over draws of the base models and questions, crossed (5 draws)"),
        (3, "95% interval over questions only: 3 runs are too few"),
    ],
)
def test_every_page_of_a_sweep_says_it(tmp_path, cell, seeds, said):
    where = cells(tmp_path / "cells", cell, seeds)
    write_pooled_report(find_cells(where), where, tmp_path / "out", uncertainty=UNCERTAINTY)
    for page in ("leaderboard.md", "leaderboard.html", "leaderboard.tex"):
        assert said.split("% ")[1] in (tmp_path / "out" / page).read_text(), page
    test = "Student's t test over draws and questions" if seeds == 5 else "Sign-flip test by question"
    assert test in (tmp_path / "out/leaderboard.md").read_text()


def studied(where: Path, cell: Callable[..., Path], seeds: int) -> Path:
    """Two rules under two settings, one of them better by about 1."""
    for seed in range(seeds):
        for rule, gain in (("a", 0.0), ("b", 1.0)):
            noise = np.random.default_rng(seed).normal(0, 0.2, size=QUESTIONS)
            merged = {model: [*(SCE[seed] + gain * (1 + noise) / n)] for n, model in enumerate(("sce", "linear"), 1)}
            cell(where, {"pivot": [*PIVOT[seed]], **merged}, seed=seed, rule=rule)
    return where


def test_a_study_is_one_family_over_its_arms_and_measures_and_its_slices_another(tmp_path, cell):
    found = STUDY.analyse(find_cells(studied(tmp_path, cell, 5)), UNCERTAINTY)
    wholes = [one for one in found if one.whole]
    parts = [one for one in found if not one.whole]
    assert len(wholes) == 2 and {one.family for one in wholes} == {2}
    assert len(parts) == 2 * 3 and {one.family for one in parts} == {6}
    smaller, larger = sorted(wholes, key=lambda one: one.p or 0)
    assert smaller.p_holm == pytest.approx(2 * (smaller.p or 0))
    assert larger.p_holm == pytest.approx(max(larger.p or 0, 2 * (smaller.p or 0)))
    assert {(one.draws, one.interval) for one in found} == {(5, "draws and questions")}
    assert all(one.smallest is not None and one.smallest > 0 for one in wholes)


def test_the_page_of_a_study_has_interval_correction_family_and_smallest_difference_for_every_row(tmp_path, cell):
    found = find_cells(studied(tmp_path, cell, 5))
    findings = STUDY.analyse(found, UNCERTAINTY)
    page = write_findings("trial", STUDY, findings, tmp_path, below=reading(findings, runs_of(found), UNCERTAINTY))
    assert "| arm | less | benchmark | difference | p after Holm | smallest |" in page
    for one in findings:
        if one.whole:
            (line,) = [text for text in page.splitlines() if text.startswith(f"| {one.arm} |")]
            assert line.endswith(f" {one.smallest:.3f} |") and "[" in line
    assert (
        "95% interval over draws of the base models and questions, crossed (5 draws). Student's t test over draws"
        in page
    )
    assert "all 2 comparisons of whole benchmarks in this study" in page
    assert "each study is a family of its own. The 6 of slices, in the CSV file, are another family." in page
    table = pd.read_csv(tmp_path / "findings-trial.csv")
    assert set(table["draws"]) == {5} and set(table["interval"]) == {"draws and questions"}
    assert dict(table.groupby("slice")["family"].first()) == {"all": 2, "x": 6, "y": 6, "z": 6}


def test_of_three_runs_the_page_says_that_they_are_too_few(tmp_path, cell):
    found = find_cells(studied(tmp_path, cell, 3))
    findings = STUDY.analyse(found, UNCERTAINTY)
    assert {(one.draws, one.interval) for one in findings} == {(3, "questions")}
    said = " ".join(reading(findings, runs_of(found), UNCERTAINTY))
    assert "over questions only: 3 runs are too few" in said and "Sign-flip test by question" in said


def test_what_is_no_weights_is_a_further_draw_where_it_scores_otherwise(tmp_path, cell):
    """An ensemble of given sources answers alike in every run; of drawn ones it does not."""
    for seed in range(5):
        out = cell(tmp_path, {"pivot": [*PIVOT[seed]], "ensemble-random": [*SCE[0]], "ensemble-top1_ppl": [*SCE[seed]]},
                   seed=seed)  # fmt: skip
        content = json.loads((out / "cell.json").read_text())
        content["weights"] = {"pivot": f"p{seed}"}
        (out / "cell.json").write_text(json.dumps(content))
    found = rows(tmp_path)
    assert (found["ensemble-random"].draws, found["ensemble-top1_ppl"].draws) == (1, 5)


def test_the_shipped_claims_of_equality_name_a_margin():
    equal = [study.claim for study in STUDIES.values() if study.claim.expects == "equal"]
    assert equal and all(claim.margin for claim in equal)
    with pytest.raises(ValueError, match="equal needs one"):
        replace(equal[0], margin=None)
