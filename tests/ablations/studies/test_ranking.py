"""Whether two judges put the models in the same order."""

import numpy as np
import pytest

from ablations.studies.ranking import rank_agreement

NOISE = np.random.default_rng(0).normal(size=(4, 60))


def test_another_scale_with_the_same_order_agrees_wholly():
    means = np.array([[1.0], [2.0], [5.0], [9.0]]) + np.zeros((4, 60))
    assert rank_agreement(means, 10 * means**2) == 1.0
    assert rank_agreement(means, -means) == -1.0


def test_two_models_that_change_places_cost_what_the_formula_says():
    """1 - 6 * sum d^2 / (n (n^2 - 1)) with one swap of neighbours among 4: 1 - 6 * 2 / 60."""
    first = np.array([[1.0], [2.0], [3.0], [4.0]]) + np.zeros((4, 5))
    second = np.array([[2.0], [1.0], [3.0], [4.0]]) + np.zeros((4, 5))
    assert rank_agreement(first, second) == pytest.approx(0.8)


def test_questions_that_cannot_tell_models_apart_hide_that_their_order_is_one():
    """Why it has no interval: the noise alone brings a true correlation of 1 down to about a half."""
    generator = np.random.default_rng(1)
    true = np.linspace(0, 0.5, 12)[:, None]
    found = [rank_agreement(*(true + generator.normal(0, 1.5, size=(2, 12, 80)))) for _ in range(50)]
    assert 0.2 < np.mean(found) < 0.8


def test_a_judge_that_rates_all_alike_ranks_nothing():
    assert rank_agreement(np.ones((4, 60)), NOISE) is None
