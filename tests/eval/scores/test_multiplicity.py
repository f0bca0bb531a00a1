"""Holm's procedure against worked examples, Bonferroni, and its own definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scores.multiplicity import holm

P_VALUES = st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=12)


def test_a_worked_example_of_four_tests():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; the last may not fall below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_example_of_r_s_p_adjust():
    # p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"): 5*.01 4*.02 3*.03, then 2*.04 and 1*.05 are raised to .09
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


def test_one_comparison_needs_no_correction():
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_a_comparison_that_could_not_be_made_counts_towards_nothing():
    assert holm([None, 0.01, None, 0.03]) == [None, pytest.approx(0.02), None, pytest.approx(0.03)]


def test_what_is_no_probability_is_named():
    with pytest.raises(ValueError, match="1.5 at place 1"):
        holm([0.5, 1.5])


@given(P_VALUES)
def test_adjusted_values_lie_between_the_raw_ones_and_bonferroni_s(p_values):
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert adjusted is not None
        assert p <= adjusted <= min(1.0, len(p_values) * p) + 1e-12


@given(P_VALUES, st.floats(min_value=0.001, max_value=0.999))
def test_rejecting_adjusted_values_is_holm_s_step_down(p_values, level):
    # Holm: go up the sorted values, reject while p_(i) <= level / (m - i), stop at the first that is not.
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: (p_values[place], place))):
        if (len(p_values) - rank) * p_values[place] > level:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p is not None and p <= level} == rejected


@given(st.permutations([0.001, 0.02, 0.02, 0.3, 0.9]))
def test_the_order_of_the_arms_does_not_matter(p_values):
    expected = dict(zip([0.001, 0.02, 0.3, 0.9], [0.005, 0.08, 0.6, 0.9], strict=True))
    assert holm(p_values) == pytest.approx([expected[p] for p in p_values])
