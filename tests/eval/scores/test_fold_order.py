"""Fold orders: numpy 1's tie order by hand and against numpy's own scalar sort; how groups are dealt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scores.fold_order import FOLD_ORDERS, folds, group_k_fold, numpy1_argsort, stable_argsort


def test_up_to_sixteen_ties_stay_in_order():
    for count in range(17):
        assert numpy1_argsort([2] * count) == list(range(count))


def test_seventeen_ties_are_partitioned_once():
    # The median, place 8, waits at place 15.  Both scans stop at every tie, so 1 changes with 14, 2 with 13, up to 7
    # with 8; there they meet, and the median comes back.  The two pieces left are short enough to stay as they are.
    order = list(range(17))
    order[8], order[15] = order[15], order[8]
    for left, right in zip(range(1, 8), range(14, 7, -1), strict=True):
        order[left], order[right] = order[right], order[left]
    order[8], order[15] = order[15], order[8]
    assert numpy1_argsort([2] * 17) == order
    assert order != list(range(17))


def test_distinct_keys_have_one_order():
    keys = [(7 * i) % 101 for i in range(101)]
    assert numpy1_argsort(keys) == stable_argsort(keys)


@given(st.lists(st.integers(0, 3), max_size=120))
def test_the_order_is_that_of_numpys_scalar_sort(keys):
    # numpy sorts long doubles without vector instructions, by the same introsort as numpy 1 did integers.
    assert numpy1_argsort(keys) == np.argsort(np.array(keys, dtype=np.longdouble)).tolist()


@pytest.mark.parametrize("count", [805, 2412, 2413, 2414, 2415])
def test_the_numbers_of_groups_that_occur_are_sorted_as_numpy_does(count):
    assert numpy1_argsort([2] * count) == np.argsort(np.full(count, 2, dtype=np.longdouble)).tolist()


@given(st.lists(st.integers(1, 9), max_size=80))
def test_every_order_sorts(keys):
    for argsort in FOLD_ORDERS.values():
        order = argsort(keys)
        assert sorted(order) == list(range(len(keys)))
        assert [keys[i] for i in order] == sorted(keys)


def test_groups_are_dealt_from_the_largest_to_the_lightest_fold():
    # 5 to fold 0, 4 to fold 1, 3 to fold 1 (4 is less than 5), 2 to fold 0 (5 is less than 7).
    assert folds([2, 5, 3, 4], 2, stable_argsort) == [0, 0, 1, 1]
    # Ties in stable order, reversed: the last group comes first.
    assert folds([1, 1, 1], 3, stable_argsort) == [2, 1, 0]


@pytest.mark.parametrize("groups", [40, 41, 97])
def test_the_stable_order_gives_scikit_learns_own_folds(groups):
    from sklearn.model_selection import GroupKFold

    labels = np.tile(np.arange(groups), 2)
    ours = group_k_fold(FOLD_ORDERS["stable"])(n_splits=5).split(labels, groups=labels)
    theirs = GroupKFold(n_splits=5).split(labels, groups=labels)
    for (_, our_test), (_, their_test) in zip(ours, theirs, strict=True):
        assert our_test.tolist() == their_test.tolist()


def test_both_halves_of_a_group_share_a_fold_and_folds_are_balanced():
    labels = np.tile(np.arange(2415), 2)
    tests = [test for _, test in group_k_fold(FOLD_ORDERS["numpy1"])(n_splits=5).split(labels, groups=labels)]
    assert sorted(np.concatenate(tests).tolist()) == list(range(4830))
    for test in tests:
        assert len(test) == 2 * 483
        assert len(set(labels[test])) == 483
