"""Many comparisons in one pass are the same as one by one."""

import numpy as np
import pytest

from eval.scores.intervals import Uncertainty, clustered_standard_error, group_indices, mean_interval
from eval.scores.paired import paired
from eval.scores.sign_flip import sign_flip_ps

# How many turns of each question both models were scored on.
TURNS = {
    "six of two turns": [2] * 6,
    "forty of two turns": [2] * 40,
    "some with a turn unscored": [2, 1, 2, 2, 1, 1] * 5,
}


@pytest.mark.parametrize("turns", TURNS.values(), ids=TURNS)
def test_each_row_has_the_interval_the_error_and_the_p_value_that_it_has_alone(turns):
    groups = [str(question) for question, count in enumerate(turns) for _ in range(count)]
    differences = np.random.default_rng(0).normal(0.3, 1.0, size=(3, len(groups)))
    uncertainty = Uncertainty(seed=5)
    for row, found in zip(differences, paired(differences, groups, uncertainty), strict=True):
        alone = mean_interval(row, groups, uncertainty)
        ends = found.difference
        assert (ends.value, ends.low, ends.high, ends.n) == pytest.approx(
            (alone.value, alone.low, alone.high, len(groups))
        )
        assert found.standard_error == pytest.approx(clustered_standard_error(row, groups))
        sums = np.bincount(group_indices(groups)[0], weights=row)
        assert found.p == sign_flip_ps(sums[None], seed=5)[0]


def test_a_difference_that_is_the_same_everywhere_has_no_interval():
    (found,) = paired(np.full((1, 5), 0.5), ["a", "a", "b", "c", "c"], Uncertainty())
    assert found.difference.value == pytest.approx(0.5)
    assert (found.difference.low, found.difference.high) == (None, None)


def test_one_question_gives_no_interval():
    (found,) = paired(np.array([[1.0, 2.0]]), ["a", "a"], Uncertainty())
    assert (found.difference.value, found.difference.low, found.standard_error) == (1.5, None, None)


def test_pairing_removes_what_both_models_share():
    # The second model is the first less 0.9 or 1.1: questions differ widely, their difference hardly.
    first = np.random.default_rng(4).normal(0, 10, size=40)
    (found,) = paired((first - (first - np.tile([0.9, 1.1], 20)))[None], range(40), Uncertainty())
    ends = found.difference
    assert (ends.value, ends.low, ends.high) == pytest.approx((1.0, 1.0, 1.0), abs=0.05)
