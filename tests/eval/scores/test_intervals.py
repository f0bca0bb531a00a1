"""Intervals of means against closed forms: Student's t, Wilson's score interval, clustered errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.scores.bounded_mean import bounded_mean_ends, score_ends
from eval.scores.intervals import Uncertainty, clustered_standard_error, group_indices, mean_interval, student_ends
from eval.scores.multiplicity import holm
from eval.scores.sign_flip import sign_flip_ps

Z = stats.norm.ppf(0.975)


def wilson(share, questions):
    """Wilson's (1927) interval from scipy, an implementation of its own."""
    right = round(share * questions)
    found = stats.binomtest(right, questions).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def test_a_mean_without_bounds_has_student_s_interval():
    values = np.random.default_rng(0).normal(5, 2, size=12)
    found = mean_interval(values, range(12), Uncertainty())
    expected = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert (found.value, found.low, found.high, found.n) == pytest.approx((values.mean(), *expected, 12))


def test_student_s_own_data():
    # Student (1908), the additional hours of sleep by two drugs: mean difference 1.58, sd 1.23 (n - 1), t(9) = 2.262.
    more = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = mean_interval(more, range(10), Uncertainty())
    assert (found.low, found.high) == pytest.approx((0.70, 2.46), abs=0.005)


@pytest.mark.parametrize("ends", [None, (-5.0, 5.0)])
def test_repeating_every_row_within_its_question_does_not_narrow_the_interval(ends):
    values = np.random.default_rng(2).normal(size=50)
    once = mean_interval(values, range(50), Uncertainty(), ends=ends)
    thrice = mean_interval(np.repeat(values, 3), np.repeat(np.arange(50), 3).tolist(), Uncertainty(), ends=ends)
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    assert thrice.n == 150


def test_one_question_has_a_mean_and_no_interval():
    found = mean_interval([3.0, 5.0], ["q", "q"], Uncertainty(), ends=(1.0, 10.0))
    assert (found.value, found.low, found.high) == (4.0, None, None)


def test_clustered_error_with_one_row_per_question_is_the_usual_one():
    values = [1.0, 2.0, 4.0, 9.0]
    assert clustered_standard_error(values, "abcd") == pytest.approx(np.std(values, ddof=1) / 2)


def test_clustered_error_of_two_turns_by_hand():
    # Mean 2.5; question sums of residuals: a (1-2.5)+(2-2.5) = -2, b (3-2.5)+(4-2.5) = 2; sqrt(2/1 * (4+4)) / 4 = 1.
    assert clustered_standard_error([1.0, 2.0, 3.0, 4.0], "aabb") == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least two"):
        clustered_standard_error([1.0, 2.0], "aa")


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_groups_are_numbered_in_order_of_first_appearance(groups):
    index, count = group_indices(groups)
    firsts = list(dict.fromkeys(groups))
    assert count == len(firsts)
    assert [firsts[number] for number in index] == groups


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="confidence is 95"):
        Uncertainty(confidence=95)
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        mean_interval([1.0, 2.0], ["a"], Uncertainty())
    with pytest.raises(ValueError, match="no rows"):
        mean_interval([], [], Uncertainty())


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


@pytest.mark.parametrize(("right", "questions"), [(20, 20), (0, 7), (1, 2), (805, 805), (81, 263), (9, 10)])
def test_right_and_wrong_answers_have_wilson_s_interval(right, questions):
    values = [1.0] * right + [0.0] * (questions - right)
    found = mean_interval(values, range(questions), Uncertainty(), ends=(0.0, 1.0))
    assert (found.low, found.high) == pytest.approx(wilson(right / questions, questions))
    percent = mean_interval([100 * value for value in values], range(questions), Uncertainty(), ends=(0.0, 100.0))
    assert (percent.low, percent.high) == pytest.approx((100 * found.low, 100 * found.high))


def test_wilson_s_published_example():
    # Newcombe (1998), table I: 81 of 263 give .2553 to .3662; 0 of 20 give .0000 to .1611.
    assert score_ends(81 / 263, Z**2 / 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert score_ends(0.0, Z**2 / 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.floats(0, 1), st.floats(1e-4, 3))
def test_the_ends_of_a_score_interval_solve_its_equation(share, squared):
    for end in score_ends(share, squared):
        assert 0 <= end <= 1
        if 1e-6 < end < 1 - 1e-6:
            assert (share - end) ** 2 == pytest.approx(squared * end * (1 - end), abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 0.99998])
def test_values_between_ends_that_are_all_alike_have_the_interval_of_a_coin(value):
    found = mean_interval([value] * 20, range(20), Uncertainty(), ends=(0.0, 1.0))
    assert (found.low, found.high) == pytest.approx(score_ends(value, Z**2 / 20))


def test_a_model_that_has_nothing_but_tens_may_have_had_lower_ratings():
    # Wilson's 20 of 20, 83.9% of the way from 1 to 10.
    found = mean_interval([10.0] * 20, range(20), Uncertainty(), ends=(1.0, 10.0))
    assert (found.low, found.high) == pytest.approx((1 + 9 * wilson(1.0, 20)[0], 10.0))


def test_all_alike_counts_questions_and_not_their_turns():
    found = mean_interval([1.0] * 20, [i // 2 for i in range(20)], Uncertainty(), ends=(0.0, 1.0))
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 10))


def test_values_in_the_middle_of_their_scale_have_nearly_student_s_interval():
    values = np.random.default_rng(6).uniform(4.5, 6.5, size=40)
    between, plain = (mean_interval(values, range(40), Uncertainty(), ends=ends) for ends in ((1.0, 10.0), None))
    assert (between.low, between.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_the_measured_variance_takes_t_and_that_of_a_coin_takes_z():
    # Two of four questions at an end, means 0, .4, .6, 1: m = .5, v = .13, effect v / .25 = .52; averaged with a
    # coin's 1 by weights 2 and .5: (2 * .52 + .5) / 2.5 = .616.  Half of z^2 / 4 and half of t(3)^2 / 3.
    squared = 0.616 * (0.5 * Z**2 / 4 + 0.5 * stats.t.ppf(0.975, 3) ** 2 / 3)
    found = mean_interval([0.0, 0.4, 0.6, 1.0], range(4), Uncertainty(), ends=(0.0, 1.0))
    assert (found.low, found.high) == pytest.approx(score_ends(0.5, squared))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 3)), min_size=2, max_size=30))
def test_an_interval_between_ends_stays_there_holds_the_mean_and_mirrors(questions):
    shares, sizes = (np.array(column, dtype=float) for column in zip(*questions, strict=True))
    low, high = bounded_mean_ends(shares * sizes, sizes, 0.95)
    mean = float(shares @ sizes / sizes.sum())
    assert 0 <= low <= mean + 1e-9 and mean - 1e-9 <= high <= 1
    assert high - low > 1e-3
    mirrored = bounded_mean_ends((1 - shares) * sizes, sizes, 0.95)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_values_beyond_their_ends_show_that_the_ends_are_not_known():
    values = [0.5, 3.0, 40.0, 80.0]
    assert mean_interval(values, range(4), Uncertainty(), ends=(0.0, 1.0)) == mean_interval(
        values, range(4), Uncertainty()
    )


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([10.0] * 12, range(12)),
        ([0.1] * 30, range(30)),  # whose sums differ in their last bits
        ([1.0, 9.0] * 5, [i // 2 for i in range(10)]),  # turns that differ, questions that do not
    ],
)
def test_values_without_known_ends_and_without_spread_between_questions_have_no_interval(values, groups):
    found = mean_interval(values, groups, Uncertainty())
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == (None, None)


def test_an_error_that_is_not_finite_gives_no_interval():
    assert student_ends(1.0, math.inf, 5, 0.95) == (None, None)


@pytest.mark.parametrize(("questions", "family"), [(20, 1), (80, 12)])
def test_the_sign_flip_test_marks_what_the_t_test_would(questions, family):
    """Which is what lets the smallest difference that is marked go by t: the noncentral t's power for one of several
    models that is truly better, beside the share of simulations that mark it."""
    draw, found, times = np.random.default_rng(4), 0, 300
    apart = 0.75 if family == 1 else 0.4
    bar = stats.t.ppf(1 - 0.025 / family, questions - 1)
    power = stats.nct.sf(bar, questions - 1, apart * math.sqrt(questions))
    for _ in range(times):
        rows = draw.normal(size=(family, questions))
        rows[0] += apart
        p = holm(sign_flip_ps(rows))[0]
        found += p is not None and p <= 0.05
    assert found / times == pytest.approx(power, abs=3.5 * math.sqrt(power * (1 - power) / times))
