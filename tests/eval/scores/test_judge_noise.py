"""The judge's own variance, against worked examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scores.intervals import Uncertainty
from eval.scores.judge_noise import judge_noise, judge_sd_interval

# Six targets, four ratings each: Shrout and Fleiss (1979), table 2.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_the_worked_example_of_shrout_and_fleiss():
    """Their table 3: mean squares 11.24 between and 6.26 within targets, ICC(1,1) = .17."""
    found = judge_noise(SHROUT_FLEISS)
    assert found.within == pytest.approx(6.26, abs=0.005)
    assert found.between == pytest.approx((11.24 - 6.26) / 4, abs=0.005)
    assert found.between / (found.between + found.within) == pytest.approx(0.17, abs=0.005)
    # With equal sizes the squared standard error is the mean square between over all verdicts.
    assert found.standard_error**2 == pytest.approx(11.24 / 24, abs=0.0005)
    assert found.judge_share == pytest.approx(6.26 / 11.24, abs=0.001)


def test_unequal_repeats_by_hand():
    # Means 2, 5, 9; squares about them 2, 0, 2; N 5, k 3: within 4 / 2 = 2.  Grand mean 27 / 5 = 5.4, so the sum
    # between is 2 * 3.4^2 + 0.4^2 + 2 * 3.6^2 = 49.2 and its mean square 24.6; n0 = (5 - 9 / 5) / 2 = 1.6.
    found = judge_noise([[1, 3], [5], [], [8, 10]])
    assert (found.items, found.verdicts, found.within) == (3, 5, pytest.approx(2))
    assert found.between == pytest.approx((24.6 - 2) / 1.6)
    judge = 2 * (1 / 2 + 1 + 1 / 2) / 3 / 3
    assert found.judge_share == pytest.approx(judge / (judge + found.between / 3))


def test_a_judge_that_repeats_itself_has_no_noise_and_one_that_guesses_has_nothing_else():
    assert judge_noise([[4, 4], [7, 7]]).judge_share == 0
    guessing = judge_noise([[1, 9], [9, 1], [1, 9]])
    assert (guessing.between, guessing.judge_share) == (0, 1)


@pytest.mark.parametrize("items", [[[1, 2]], [[1], [2], [3]], []])
def test_what_cannot_be_split_is_refused(items):
    with pytest.raises(ValueError, match="asked twice"):
        judge_noise(items)


def test_the_components_of_a_simulation_are_found():
    random = np.random.default_rng(0)
    true = random.normal(6, 2, size=2000)
    items = [list(random.normal(mean, 0.7, size=3)) for mean in true]
    found = judge_noise(items)
    assert found.judge_sd == pytest.approx(0.7, rel=0.03)
    assert found.between == pytest.approx(4, rel=0.08)
    low, high = judge_sd_interval(items, [str(i) for i in range(2000)], Uncertainty())
    assert low < 0.7 < high
    assert high - low < 0.1


@given(
    st.lists(st.lists(st.integers(1, 10), min_size=2, max_size=4), min_size=2, max_size=8),
    st.integers(1, 5),
    st.integers(-3, 3),
)
def test_scaling_and_shifting_verdicts_scales_variances(items, scale, shift):
    before = judge_noise(items)
    after = judge_noise([[scale * value + shift for value in item] for item in items])
    assert after.within == pytest.approx(scale**2 * before.within, abs=1e-9)
    assert after.between == pytest.approx(scale**2 * before.between, abs=1e-9)


def test_one_question_has_no_interval():
    assert judge_sd_interval([[1, 2], [3, 4]], ["q", "q"], Uncertainty()) is None


def test_the_interval_is_the_jackknifes_over_questions_on_the_logarithm():
    # Squares within: 2 and 0.5 and 4.5 and 8 with 1 degree of freedom each.
    items, squares = [[1, 3], [5, 6], [2, 5], [9, 5]], [2.0, 0.5, 4.5, 8.0]
    logs = np.log([math.sqrt((sum(squares) - one) / 3) for one in squares])
    error = math.sqrt(3 / 4 * np.sum((logs - logs.mean()) ** 2))
    whole = math.sqrt(sum(squares) / 4)
    found = judge_sd_interval(items, list("abcd"), Uncertainty())
    # t at 3 degrees of freedom, .975: 3.18245.
    assert found == pytest.approx([whole * math.exp(side * 3.18245 * error) for side in (-1, 1)], rel=1e-5)


def test_a_judge_that_never_varies_has_no_interval():
    assert judge_sd_interval([[4, 4], [7, 7], [3, 3]], list("abc"), Uncertainty()) is None
