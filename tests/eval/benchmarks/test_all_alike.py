"""Benchmarks whose every comparison came out the same way: an interval has width, or there is none."""

from __future__ import annotations

import pytest

from eval.benchmarks import metric_of
from eval.benchmarks.alpaca.metrics import BaselineComparison, own_set_row, win_rate_rows
from eval.benchmarks.lm_eval_scores import metric_of_task
from eval.scores.bounded_mean import score_ends
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import mean_row

UNCERTAINTY = Uncertainty()
Z = 1.959964


@pytest.mark.parametrize(("preference", "share"), [(2.0, 1.0), (1.0, 0.0), (1.5, 0.5), (1.99998, 0.99998)])
def test_a_win_rate_without_a_contrary_comparison_has_wilson_s_interval(preference, share):
    count = 12
    comparison = BaselineComparison(
        baseline_name="base",
        baseline=tuple("b" * (i + 3) for i in range(count)),
        own=tuple("o" * (2 * i + 1) for i in range(count)),
        preferences=(preference,) * count,
    )
    rate, _, rounded = win_rate_rows(comparison, UNCERTAINTY)
    assert (rate.low, rate.high) == pytest.approx([100 * end for end in score_ends(share, Z**2 / count)], abs=1e-4)
    assert rounded.low is not None and rounded.high is not None and rounded.high - rounded.low > 10
    controlled = own_set_row(comparison, UNCERTAINTY, c=1.0)
    assert (controlled.low, controlled.high) == (None, None)  # a fit without any spread


@pytest.mark.parametrize(
    ("benchmark", "metric", "ends"),
    [
        ("alpaca_eval", "discrete_win_rate", (0.0, 100.0)),
        ("alpaca_eval", "position_bias", (-50.0, 50.0)),
        ("alpaca_eval", "average_length", None),
        ("mt_bench", "rating", (1.0, 10.0)),
        ("mt_bench_pairwise", "first_position_bias", (-100.0, 100.0)),
        ("mt_bench_pairwise", "pairwise_win_rate", (0.0, 100.0)),
        ("arc", "acc,none", (0.0, 1.0)),
        ("arc", "perplexity", None),
    ],
)
def test_a_metric_says_between_which_ends_its_items_lie(benchmark, metric, ends):
    assert metric_of(benchmark, metric).ends == ends


def test_a_task_answered_wholly_right_and_constant_ratings():
    right = mean_row("arc", "acc", "all", [1.0] * 30, range(30), UNCERTAINTY, ends=metric_of_task("acc").ends)
    assert (right.value, right.low, right.high) == pytest.approx((1.0, *score_ends(1.0, Z**2 / 30)))
    rated = mean_row("mt_bench", "rating", "all", [10.0] * 30, range(30), UNCERTAINTY, ends=(1.0, 10.0))
    assert (rated.value, rated.low, rated.high) == pytest.approx((10.0, 1 + 9 * 30 / (30 + Z**2), 10.0))
    long = mean_row("alpaca_eval", "average_length", "all", [800.0] * 30, range(30), UNCERTAINTY)
    assert (long.value, long.low, long.high) == (800.0, None, None)
