"""Predictions: made with a direction and a size, printed beside the result with a verdict that the interval bears."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.cell import find_cells
from ablations.report.__main__ import run
from ablations.studies import STUDIES
from ablations.studies.arms import ArmChoice
from ablations.studies.outcomes import outcomes, predictions_section
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study
from eval.report.sections import as_markdown
from eval.scores.intervals import Uncertainty

PAGES = Path(__file__).parents[3] / "docs" / "findings"
UNCERTAINTY = Uncertainty(seed=0)
ENDS = st.floats(-9, 9, allow_nan=False)


def prediction(expects: str = "better", size: tuple[float, float] | None = None, **more: object) -> Prediction:
    named = {"arm": ArmChoice(model="merged", axes={"rule": "b"}), "measure": "mt_bench", "made": date(2026, 1, 2)}
    return Prediction("b is as said.", expects=expects, size=size, **(named | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(page.stem for page in PAGES.glob("*.md") if page.stem in STUDIES))
def test_a_study_with_a_committed_page_was_predicted(name: str) -> None:
    assert STUDIES[name].predictions


@pytest.mark.parametrize("name", STUDIES)
def test_a_prediction_is_of_an_arm_that_its_study_compares(name: str) -> None:
    study = STUDIES[name]
    for one in study.predictions:
        assert not study.models or one.arm.model in (None, *study.models)
        assert one.arm != (one.reference or study.reference)


@pytest.mark.parametrize(
    ("expects", "size"), [("better", (-0.1, 0.2)), ("worse", (-0.2, 0.1)), ("equal", (0.1, 0.2)), ("equal", None)]
)
def test_a_size_that_says_another_thing_than_the_direction_is_refused(expects, size):
    with pytest.raises(ValueError, match=f"expects {expects}"):
        prediction(expects, size)


def test_a_size_whose_ends_are_exchanged_is_refused():
    with pytest.raises(ValueError, match=r"expected \(low, high\)"):
        prediction("no claim", (0.2, 0.1))


@pytest.mark.parametrize(
    ("expects", "interval", "found", "said"),
    [
        ("better", (0.1, 0.3), True, "right"),
        ("better", (-0.3, -0.1), True, "wrong"),
        ("worse", (-0.3, -0.1), True, "right"),
        ("worse", (0.1, 0.3), True, "wrong"),
        ("better", (-0.1, 0.3), True, "not shown"),  # the interval allows both
        ("better", (0.1, 0.3), False, "not shown"),  # no finding after the study's correction
        ("better", (None, None), True, "not shown"),
        ("no claim", (0.1, 0.3), True, "no claim"),
    ],
)
def test_a_direction_needs_a_finding_whose_interval_leaves_zero_out(expects, interval, found, said):
    assert prediction(expects).direction(*interval, found=found) == said


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.04, 0.03), "right"),
        ((0.06, 0.20), "wrong"),
        ((-0.04, 0.20), "not shown"),  # no significance is no equality
        ((0.01, 0.04), "right"),  # a difference, and one that still counts as equal
        ((None, None), "not shown"),
    ],
)
def test_equality_needs_an_interval_within_the_range_that_was_named(interval, said):
    assert prediction("equal", (-0.05, 0.05)).direction(*interval, found=False) == said


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.12, 0.28), "within"),
        ((0.05, 0.09), "below"),
        ((0.35, 0.50), "above"),
        ((0.05, 0.20), "not told"),
        ((0.05, 0.50), "not told"),
        ((None, None), "not told"),
    ],
)
def test_a_size_is_told_where_the_whole_interval_lies_on_one_side(interval, said):
    assert prediction("better", (0.1, 0.3)).size_of(*interval) == said
    assert prediction("better").size_of(*interval) == "not told"


@given(ends=st.tuples(ENDS, ENDS).map(sorted), interval=st.tuples(ENDS, ENDS).map(sorted), found=st.booleans())
def test_a_result_that_is_turned_round_bears_out_the_prediction_that_is_turned_round(ends, interval, found):
    (low, high), (least, most) = ends, interval
    there, back = prediction("no claim", (low, high)), prediction("no claim", (-high, -low))
    turned = {"below": "above", "above": "below"}
    said = there.size_of(least, most)
    assert back.size_of(-most, -least) == turned.get(said, said)
    better, worse = (prediction(expects) for expects in ("better", "worse"))
    assert better.direction(least, most, found=found) == worse.direction(-most, -least, found=found)


STUDY = Study(
    question="Which rule?",
    claim=Claim("b beats a.", source="nobody", arm=ArmChoice(model="merged", axes={"rule": "b"})),
    held=("questions",),
    models=("merged",),
    reference=ArmChoice(axes={"rule": "a"}),
    limits="nothing beyond this test.",
)


def test_every_prediction_stands_beside_the_results_that_it_speaks_of(tmp_path: Path, cell: Callable[..., Path]):
    low = [4.0, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7]
    ratings = {"a": low, "b": [value + 1 + 0.1 * (place % 3) for place, value in enumerate(low)]}
    for rule, values in ratings.items():
        for kind in ("x", "y"):
            cell(tmp_path, {"pivot": [5.0] * 12, "merged": values}, rule=rule, kind=kind)
    study = replace(
        STUDY,
        predictions=(
            prediction("better", (0.5, 2)),  # its two settings of `kind` are two results
            prediction("worse", arm=ArmChoice(model="merged", axes={"rule": "b", "kind": "y"})),
            prediction("better", measure="mt_bench x", arm=ArmChoice(model="merged", axes={"rule": "b", "kind": "y"})),
            prediction(
                "no claim", (0, 1), reference=ArmChoice(model="pivot"), arm=ArmChoice(axes={"rule": "a", "kind": "x"})
            ),
            prediction("better", arm=ArmChoice(model="other")),
        ),
    )
    cells = find_cells(tmp_path)
    found = outcomes(study, study.analyse(cells, UNCERTAINTY), cells, UNCERTAINTY)
    told = [(one.prediction.expects, one.direction, one.size) for one in found]
    first, second = ("better", "right", "within"), ("worse", "wrong", "not told")
    assert told[:3] == [first, first, second]
    assert found[3].found is not None and found[3].found.slice == "x" and found[3].found.n == 4
    assert found[4].found is not None and found[4].found.difference == pytest.approx(0.5)  # a mean of 5.5, less 5
    assert told[5] == ("better", None, None)
    page = as_markdown(predictions_section(found))
    # 1, 1.1 and 1.2 alike often: a mean of 1.1
    line = "| b is as said. (2026-01-02, mt_bench) | better, +0.5 to +2 | merged, rule=b, kind=x less merged, rule=a"
    assert f"{line}, kind=x: +1.100 [" in page
    assert "| direction right; size within |" in page
    assert "| b is as said. (2026-01-02, mt_bench) | better | — | not measured |" in page


def test_a_report_has_its_study_s_predictions_as_a_table_and_a_file(
    tmp_path: Path, cell: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for rule, gain in (("a", 0.0), ("b", 1.0)):
        cell(tmp_path / "cells", {"pivot": [5.0] * 8, "merged": [gain + 4 + i / 8 for i in range(8)]}, study="trial",
             rule=rule)  # fmt: skip
    monkeypatch.setitem(STUDIES, "trial", replace(STUDY, predictions=(prediction("better", (0.5, 2)),)))
    settings = {"cells": str(tmp_path / "cells"), "out": str(tmp_path / "out"), "paths": {"artifacts": "none"}}
    run({**settings, "report": {}})
    page = (tmp_path / "out/findings-trial.md").read_text()
    assert "## Predictions" in page and "better, +0.5 to +2" in page
    assert page.strip() in capsys.readouterr().out
    with (tmp_path / "out/findings-trial-predictions.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["expects"], row["size_low"], row["made"]) == ("better", "0.5", "2026-01-02")
    assert float(row["difference"]) == 1
    assert "<h2>Predictions</h2>" in (tmp_path / "out/leaderboard.html").read_text()
