"""Every kind of interval holds planted truths about as often as it says, and none is without a planted truth."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest

from bench.coverage import PLANTED
from bench.planted import Planted, coverage
from bench.smallest import Family, marked

SCORES = Path(__file__).parents[2] / "eval" / "scores"
TIMES = 2_000
# Four standard errors of a share of .95 over TIMES samples: one in 16,000 cases is off by more.
OFF = 4 * math.sqrt(0.95 * 0.05 / TIMES)
# A return annotation that is an interval, its ends, or a record that has one.
GIVES = re.compile(r"\b(Interval|Ends|Paired|CrossedMean|tuple\[float, float\])")
# What others are computed with, or planted elsewhere.
PIECES = {
    "eval.scores.intervals.student_ends": "the ends of `mean_interval` and `paired`",
    "eval.scores.jackknife.jackknife_ends": "the ends of the agreement figures and of `judge_sd_interval`",
    "eval.scores.length_control.rate_ends": "the ends of both length-controlled rates",
    "eval.scores.bounded_mean.bounded_mean_ends": "the ends of `mean_interval` between known ends",
    "eval.scores.bounded_mean.score_ends": "the formula of `bounded_mean_ends`",
    "eval.scores.crossed.t_interval": "the ends of `crossed_mean`",
    "eval.scores.crossed.crossed_interval": "`crossed_mean` of a table",
}


def fast(planted: Planted) -> bool:
    return planted.questions <= 160 and "official" not in planted.kind


@pytest.mark.parametrize("planted", [one for one in PLANTED if fast(one)], ids=lambda planted: planted.name)
def test_an_interval_holds_the_truth_as_often_as_it_says(planted):
    found = coverage(planted, times=TIMES)
    if found.refused > 0.5:
        return  # hardly any sample has one: what is right where lengths hardly overlap
    low, high = planted.band
    assert low - OFF <= found.held <= high + OFF
    assert found.width > 0


@pytest.mark.parametrize("apart", [3, 2])
def test_lengths_that_hardly_overlap_have_no_rate(apart):
    chosen = [one for one in PLANTED if f"lengths {apart} deviations" in one.truth and one.questions == 40]
    assert chosen
    for planted in chosen:
        assert coverage(planted, times=200).refused > 0.97


def test_a_band_beside_the_usual_one_has_a_reason():
    assert all(bool(planted.why) == (planted.band != (0.94, 0.96)) for planted in PLANTED)
    assert len({planted.name for planted in PLANTED}) == len(PLANTED)


def test_every_function_that_gives_an_interval_has_a_planted_truth():
    asked = {f"{planted.asked.__module__}.{planted.asked.__name__}" for planted in PLANTED}
    found = {
        f"eval.scores.{path.stem}.{node.name}"
        for path in SCORES.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns is not None
        if GIVES.search(ast.unparse(node.returns))
    }
    missing = found - asked - PIECES.keys()
    assert not missing, f"no planted truth in bench.coverage for {sorted(missing)}"
    assert {"eval.scores.intervals.mean_interval", "eval.scores.paired.paired"} <= found & asked


@pytest.mark.parametrize("family", [Family(models=1, questions=20), Family(models=4, questions=20)], ids=str)
def test_the_smallest_difference_is_marked_in_8_of_10_runs(family):
    runs = 600
    off = 4 * math.sqrt(0.8 * 0.2 / runs)
    assert abs(marked(family, runs=runs) - 0.8) <= off
