"""Whether two judges put the models in the same order."""

import numpy as np
import pytest

from ablations.studies.ranking import rank_agreement
from eval.scores.intervals import Bootstrap

BOOTSTRAP = Bootstrap(resamples=400, seed=0)
NOISE = np.random.default_rng(0).normal(size=(4, 60))


def test_another_scale_with_the_same_order_agrees_wholly():
    means = np.array([[1.0], [2.0], [5.0], [9.0]]) + np.zeros((4, 60))
    found = rank_agreement(means, 10 * means**2, BOOTSTRAP)
    assert (found.value, found.low, found.high, found.n) == (1.0, None, None, 4)  # every resample agrees
    assert rank_agreement(means, -means, BOOTSTRAP).value == -1.0


def test_two_models_that_change_places_cost_what_the_formula_says():
    """1 - 6 * sum d^2 / (n (n^2 - 1)) with one swap of neighbours among 4: 1 - 6 * 2 / 60."""
    first = np.array([[1.0], [2.0], [3.0], [4.0]]) + np.zeros((4, 5))
    second = np.array([[2.0], [1.0], [3.0], [4.0]]) + np.zeros((4, 5))
    assert rank_agreement(first, second, BOOTSTRAP).value == pytest.approx(0.8)


def test_models_that_questions_cannot_tell_apart_have_a_wide_interval():
    found = rank_agreement(NOISE, NOISE[::-1], BOOTSTRAP)
    assert found.low < 0 < found.high


def test_both_settings_are_resampled_on_the_same_questions():
    # Each setting alone ranks by chance; but the second's every rating follows from the first's, draw for draw.
    found = rank_agreement(NOISE, 2 * NOISE + 1, BOOTSTRAP)
    assert (found.value, found.low, found.high) == (1.0, None, None)  # wholly, in every resample


def test_a_judge_that_rates_all_alike_ranks_nothing():
    assert rank_agreement(np.ones((4, 60)), NOISE, BOOTSTRAP) is None
