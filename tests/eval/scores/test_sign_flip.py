"""The sign-flip test against Fisher's own example, counting by hand, and the paired t test."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from eval.scores.intervals import group_indices
from eval.scores.sign_flip import sign_flip_ps, smallest_p, swaps

# Darwin's 15 pairs of crossed and self-fertilised maize, differences in eighths of an inch (Fisher 1935, section 17).
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def sign_flip_p(differences, groups, **settings):
    """One model's p-value from its differences row by row."""
    index, count = group_indices(groups)
    sums = np.bincount(index, weights=differences, minlength=count)
    return sign_flip_ps(sums[None], **settings)[0]


def test_fisher_s_count_for_darwin_s_maize():
    # Fisher, section 21: of 32,768 sign patterns 863 have a sum of 314 or more, and as many one of -314 or less.
    assert sum(MAIZE) == 314
    assert sign_flip_p(MAIZE, range(15), flips=2**15) == 2 * 863 / 2**15


def test_random_flips_come_near_the_exact_value():
    exact = 2 * 863 / 2**15
    error = math.sqrt(exact * (1 - exact) / 9_999)
    assert sign_flip_p(MAIZE, range(15)) == pytest.approx(exact, abs=4 * error)


def test_four_questions_by_hand():
    # 2**4 = 16 patterns of +-1 +-2 +-3 +-4; a sum of 8 or more: 10, 8 (the 1 turned); as many on the other side.
    assert sign_flip_p([-1, 2, 3, 4], "abcd") == 4 / 16


def test_two_turns_of_a_question_are_flipped_together():
    # Question sums 3 and 3: patterns 6 0 0 -6, so 2 of 4; as four independent rows it would be 2 of 16.
    assert sign_flip_p([1, 2, 1, 2], "aabb") == 2 / 4
    assert sign_flip_p([1, 2, 1, 2], "abcd") == 2 / 16


def test_the_same_answers_twice_are_no_new_evidence():
    once = sign_flip_p(MAIZE, range(15))
    assert sign_flip_p(np.repeat(MAIZE, 3), np.repeat(range(15), 3).tolist()) == once


def test_no_difference_at_all_is_no_finding():
    assert sign_flip_p([0.0] * 30, range(30)) == 1
    assert sign_flip_p([0.0], "a") == 1


def test_random_flips_never_give_zero():
    assert sign_flip_p([1.0] * 100, range(100), flips=99) == 1 / 100


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_it_agrees_with_the_paired_t_test_where_values_are_normal(shift):
    values = np.random.default_rng(5).normal(shift, 1, size=200)
    assert sign_flip_p(values, range(200)) == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.015)


def test_p_values_are_uniform_when_there_is_nothing_to_find():
    generator = np.random.default_rng(6)
    found = [sign_flip_p(generator.normal(size=40), range(40), flips=199) for _ in range(400)]
    # 400 draws of a coin of 5%: 20 expected, standard error 4.4
    assert sum(p <= 0.05 for p in found) == pytest.approx(20, abs=4 * 4.4)


@settings(max_examples=50)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=12), st.floats(0.1, 100))
def test_swapping_the_models_or_the_unit_changes_nothing(values, unit):
    groups = range(len(values))
    p = sign_flip_p(values, groups)
    assert 0 < p <= 1
    assert sign_flip_p([-value for value in values], groups) == p
    assert sign_flip_p([unit * value for value in values], groups) == p


def test_flips_are_drawn_by_their_seed():
    assert (swaps(40, 100, 1) == swaps(40, 100, 1)).all()
    assert (swaps(40, 100, 1) != swaps(40, 100, 2)).any()
    assert len(swaps(3, 100, 1)) == 2**3


@pytest.mark.parametrize("questions", [1, 2, 5, 13, 14, 40])
def test_no_p_value_is_smaller_than_that_of_a_sign_that_all_questions_share(questions):
    (clearest,) = sign_flip_ps(np.ones((1, questions)))
    if questions <= 13:  # all 2**13 swaps are counted
        assert smallest_p(questions) == clearest
    else:
        assert smallest_p(questions) == 1 / 10_000 <= clearest
