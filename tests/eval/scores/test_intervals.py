"""Intervals against closed forms: binomial and normal standard errors, clustering, pairing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scores.intervals import (
    Bootstrap,
    bootstrap_means,
    clustered_standard_error,
    group_indices,
    mean_interval,
    minimum_detectable_difference,
    percentile_interval,
    resample_counts,
    wilson_interval,
)
from eval.scores.multiplicity import holm
from eval.scores.sign_flip import sign_flip_ps

MANY = Bootstrap(resamples=20_000, seed=1)


def test_every_resample_draws_as_many_groups_as_there_are():
    counts = resample_counts(7, Bootstrap(resamples=100))
    assert counts.shape == (100, 7)
    assert (counts.sum(axis=1) == 7).all()


def test_the_spread_of_resampled_means_is_the_binomial_standard_error():
    # 30 of 100 right: the bootstrap distribution of the mean is binomial with variance p(1-p)/n.
    values = [1.0] * 30 + [0.0] * 70
    spread = np.std(bootstrap_means(values, range(100), MANY))
    assert spread == pytest.approx(math.sqrt(0.3 * 0.7 / 100), rel=0.02)


def test_the_interval_of_many_normal_values_is_mean_plus_minus_1_96_errors():
    values = np.random.default_rng(0).normal(5, 2, size=400)
    found = mean_interval(values, range(400), MANY)
    error = values.std() / 20  # the bootstrap's own variance divides by n
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)
    assert found.n == 400


def test_repeating_every_row_within_its_question_does_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(size=50)
    once = mean_interval(values, range(50), MANY)
    thrice = mean_interval(np.repeat(values, 3), np.repeat(np.arange(50), 3).tolist(), MANY)
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    assert thrice.n == 150


def test_questions_of_unequal_size_weigh_by_their_rows():
    # Two questions, one row of 0 and three rows of 1: a resample is {a,a}: 0, {a,b}: 3/4 or {b,b}: 1.
    draws = bootstrap_means([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"], MANY)
    assert set(np.unique(draws)) == {0.0, 0.75, 1.0}
    assert np.mean(draws == 0.75) == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(3).normal(size=30)
    assert mean_interval(values, range(30), Bootstrap()) == mean_interval(values, range(30), Bootstrap())
    assert mean_interval(values, range(30), Bootstrap()) != mean_interval(values, range(30), Bootstrap(seed=1))


def test_one_question_has_a_mean_and_no_interval():
    found = mean_interval([3.0, 5.0], ["q", "q"], Bootstrap())
    assert (found.value, found.low, found.high) == (4.0, None, None)


def test_clustered_error_with_one_row_per_question_is_the_usual_one():
    values = [1.0, 2.0, 4.0, 9.0]
    assert clustered_standard_error(values, "abcd") == pytest.approx(np.std(values, ddof=1) / 2)


def test_clustered_error_of_two_turns_by_hand():
    # Mean 2.5; question sums of residuals: a (1-2.5)+(2-2.5) = -2, b (3-2.5)+(4-2.5) = 2; sqrt(2/1 * (4+4)) / 4 = 1.
    assert clustered_standard_error([1.0, 2.0, 3.0, 4.0], "aabb") == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least two"):
        clustered_standard_error([1.0, 2.0], "aa")


def test_the_smallest_detectable_difference_is_2_8_standard_errors():
    # z(0.975) = 1.95996, z(0.8) = 0.84162
    assert minimum_detectable_difference(1.0) == pytest.approx(1.95996 + 0.84162, abs=1e-4)
    assert minimum_detectable_difference(0.5, confidence=0.9, power=0.5) == pytest.approx(0.5 * 1.64485, abs=1e-4)


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_groups_are_numbered_in_order_of_first_appearance(groups):
    index, count = group_indices(groups)
    firsts = list(dict.fromkeys(groups))
    assert count == len(firsts)
    assert [firsts[number] for number in index] == groups


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="resamples is 0"):
        Bootstrap(resamples=0)
    with pytest.raises(ValueError, match="confidence is 95"):
        Bootstrap(confidence=95)
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        mean_interval([1.0, 2.0], ["a"], Bootstrap())
    with pytest.raises(ValueError, match="no rows"):
        mean_interval([], [], Bootstrap())


def test_questions_of_equal_size_have_the_error_of_their_means():
    # Cochran (1977, ch. 9): with clusters of one size the error is that of the G cluster means, sd / sqrt(G).
    turns = np.random.default_rng(7).normal(size=(25, 2)) + np.random.default_rng(8).normal(size=(25, 1))
    expected = np.std(turns.mean(axis=1), ddof=1) / 5
    assert clustered_standard_error(turns.ravel(), np.repeat(range(25), 2).tolist()) == pytest.approx(expected)


def test_the_design_effect_of_two_turns_that_agree_fully_is_two():
    # Kish: variance grows by 1 + (m - 1) * correlation over that of independent rows; here m = 2, correlation 1.
    values = np.random.default_rng(9).normal(size=60)
    clustered = clustered_standard_error(np.repeat(values, 2), np.repeat(range(60), 2).tolist())
    independent = clustered_standard_error(np.repeat(values, 2), range(120))
    assert clustered**2 / independent**2 == pytest.approx(2 * 119 / 120 * 60 / 59)  # n/(n-1) of 60 and of 120


def test_cohen_s_sample_size_for_a_medium_effect():
    # Cohen (1988): d = 0.5, alpha .05 two-sided, power .8 needs 63 a group in the normal approximation (64 by t).
    error = math.sqrt(1 / 63 + 1 / 63)
    assert minimum_detectable_difference(error) == pytest.approx(0.5, abs=0.001)


def test_a_true_difference_of_that_size_is_found_in_8_of_10_cases():
    error = 1 / math.sqrt(50)
    means = np.random.default_rng(10).normal(minimum_detectable_difference(error), error, size=20_000)
    assert np.mean(np.abs(means) > 1.96 * error) == pytest.approx(0.8, abs=0.01)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(11)
    held = 0
    for _ in range(400):
        found = mean_interval(generator.normal(3, 1, size=80), range(80), Bootstrap(resamples=500))
        assert found.low is not None and found.high is not None
        held += found.low <= 3 <= found.high
    # Percentile intervals of 80 questions hold a little less than 95%: 94% expected, standard error 1.2%.
    assert held / 400 == pytest.approx(0.94, abs=0.04)


@pytest.mark.parametrize(("share", "questions"), [(1.0, 20), (0.0, 7), (0.5, 2), (1.0, 805)])
def test_wilson_s_ends_solve_the_score_equation(share, questions):
    # The ends are the shares from which the sample lies z of their own standard errors away.
    low, high = wilson_interval(share, questions, 0.95)
    for end in (low, high):
        if 0 < end < 1:
            away = abs(share - end) / math.sqrt(end * (1 - end) / questions)
            assert away == pytest.approx(1.959964, abs=1e-5)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 0


def test_wilson_s_published_example():
    # Newcombe (1998), table I: 81 of 263 give .2553 to .3662; 0 of 20 give .0000 to .1611.
    assert wilson_interval(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0.0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 0.99998])
def test_parts_of_a_whole_that_are_all_alike_have_wilson_s_interval(value):
    found = mean_interval([value] * 20, range(20), Bootstrap(), whole=1.0)
    assert (found.low, found.high) == pytest.approx(wilson_interval(value, 20, 0.95))
    percent = mean_interval([100 * value] * 20, range(20), Bootstrap(), whole=100.0)
    assert (percent.low, percent.high) == pytest.approx((100 * found.low, 100 * found.high))


def test_wilson_counts_questions_and_not_their_turns():
    found = mean_interval([1.0] * 20, [i // 2 for i in range(20)], Bootstrap(), whole=1.0)
    assert (found.low, found.high) == pytest.approx(wilson_interval(1.0, 10, 0.95))


def test_shares_that_differ_by_less_than_tables_print_are_alike():
    nearly = [1 - i * 1e-6 for i in range(20)]
    found = mean_interval(nearly, range(20), Bootstrap(), whole=1.0)
    assert found.high - found.low > 0.1


def test_shares_that_differ_keep_their_resampled_interval():
    values = [1.0] * 15 + [0.0] * 5
    assert mean_interval(values, range(20), Bootstrap(), whole=1.0) == mean_interval(values, range(20), Bootstrap())


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([10.0] * 12, range(12)),
        ([0.1] * 30, range(30)),  # whose sums differ in their last bits
        ([1.0, 9.0] * 5, [i // 2 for i in range(10)]),  # turns that differ, questions that do not
    ],
)
def test_values_that_show_no_spread_between_questions_have_no_interval(values, groups):
    found = mean_interval(values, groups, Bootstrap())
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == (None, None)


def test_one_resample_is_no_interval():
    assert percentile_interval(np.array([3.0]), 0.95) == (None, None)


@pytest.mark.parametrize(("questions", "family"), [(12, 3), (80, 11)])
def test_students_t_gives_few_questions_their_due(questions, family):
    """Simulated benchmarks in which one of several models is truly better by the difference that is printed."""
    draw, found, times = np.random.default_rng(4), 0, 300
    confidence = 1 - 0.05 / family
    for _ in range(times):
        rows = draw.normal(size=(family, questions))
        rows[0] += minimum_detectable_difference(1 / math.sqrt(questions), confidence=confidence, questions=questions)
        p = holm(sign_flip_ps(rows))[0]
        found += p is not None and p <= 0.05
    assert found / times == pytest.approx(0.8, abs=0.07)  # three standard errors of 300 simulations
