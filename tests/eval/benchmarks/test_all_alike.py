"""Benchmarks whose every comparison came out the same way: an interval has width, or there is none."""

from __future__ import annotations

import pytest

from eval.benchmarks import metric_of
from eval.benchmarks.alpaca.metrics import BaselineComparison, own_set_row, win_rate_rows
from eval.benchmarks.lm_eval_scores import metric_of_task
from eval.scores.intervals import Bootstrap, wilson_interval
from eval.scores.metric_row import mean_row

BOOTSTRAP = Bootstrap(resamples=200)


@pytest.mark.parametrize(("preference", "share"), [(2.0, 1.0), (1.0, 0.0), (1.5, 0.5), (1.99998, 0.99998)])
def test_a_win_rate_without_a_contrary_comparison_has_wilson_s_interval(preference, share):
    count = 12
    comparison = BaselineComparison(
        baseline_name="base",
        baseline=tuple("b" * (i + 3) for i in range(count)),
        own=tuple("o" * (2 * i + 1) for i in range(count)),
        preferences=(preference,) * count,
    )
    rate, _, rounded = win_rate_rows(comparison, BOOTSTRAP)
    assert (rate.low, rate.high) == pytest.approx([100 * end for end in wilson_interval(share, count, 0.95)])
    assert rounded.low is not None and rounded.high is not None and rounded.high - rounded.low > 10
    controlled = own_set_row(comparison, BOOTSTRAP, c=1.0)
    assert (controlled.low, controlled.high) == (None, None)  # a fit that every resample repeats


@pytest.mark.parametrize(
    ("benchmark", "metric", "whole"),
    [
        ("alpaca_eval", "discrete_win_rate", 100.0),
        ("alpaca_eval", "position_bias", None),  # from -50 to 50
        ("alpaca_eval", "average_length", None),
        ("mt_bench", "rating", None),
        ("mt_bench_pairwise", "pairwise_win_rate", 100.0),
        ("arc", "acc,none", 1.0),
        ("arc", "perplexity", None),
    ],
)
def test_a_metric_says_whether_its_items_are_parts_of_a_whole(benchmark, metric, whole):
    assert metric_of(benchmark, metric).whole == whole


def test_a_task_answered_wholly_right_and_constant_ratings():
    right = mean_row("arc", "acc", "all", [1.0] * 30, range(30), BOOTSTRAP, whole=metric_of_task("acc").whole)
    assert (right.value, right.low, right.high) == pytest.approx((1.0, *wilson_interval(1.0, 30, 0.95)))
    rated = mean_row("mt_bench", "rating", "all", [10.0] * 30, range(30), BOOTSTRAP)
    assert (rated.value, rated.low, rated.high) == (10.0, None, None)
