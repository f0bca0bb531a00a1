"""Agreement statistics against textbook values and independent implementations."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval.scores.agreement import (
    STATISTICS,
    agreement,
    cohen_kappa,
    fleiss_agreement,
    fleiss_kappa,
    percent_agreement,
    quadratic_kappa,
    spearman,
)
from eval.scores.intervals import Uncertainty

# Fleiss (1971), table 1: 30 patients, six psychiatrists each, five diagnoses.
FLEISS = """0 0 0 6 0|0 3 0 0 3|0 1 4 0 1|0 0 0 0 6|0 3 0 3 0|2 0 4 0 0|0 0 4 0 2|2 0 3 1 0|2 0 0 4 0|0 0 0 0 6|
1 0 0 5 0|1 1 0 4 0|0 3 3 0 0|1 0 0 5 0|0 2 0 3 1|0 0 5 0 1|3 0 0 1 2|5 1 0 0 0|0 2 0 4 0|1 0 2 0 3|
0 0 0 0 6|0 1 0 5 0|0 2 0 1 3|2 0 0 4 0|1 0 0 4 1|0 5 0 1 0|4 0 0 0 2|0 2 0 4 0|1 0 5 0 0|0 0 0 0 6"""


def columns(table):
    """Two raters' values from a table of counts: row i, column j of the first's and the second's categories."""
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    first, second = np.array(pairs, dtype=float).T
    return first, second, np.ones(len(pairs))


def test_cohens_kappa_of_a_two_by_two_table():
    """20 and 15 agreements of 50; by chance .5 * .6 + .5 * .4: (0.7 - 0.5) / 0.5."""
    found = columns([[20, 5], [10, 15]])
    assert percent_agreement(*found) == pytest.approx(0.7)
    assert cohen_kappa(*found) == pytest.approx(0.4)


def test_cohens_kappa_of_his_own_table():
    """Cohen (1960; again 1968), in percent: .70 agreement, .41 by chance, kappa .492."""
    found = columns([[44, 5, 1], [7, 20, 3], [9, 5, 6]])
    assert percent_agreement(*found) == pytest.approx(0.70)
    expected = 0.5 * 0.6 + 0.3 * 0.3 + 0.2 * 0.1
    assert cohen_kappa(*found) == pytest.approx((0.7 - expected) / (1 - expected))
    assert cohen_kappa(*found) == pytest.approx(0.492, abs=0.0005)


def test_fleiss_kappa_of_his_own_table():
    rows = [[int(cell) for cell in row.split()] for row in FLEISS.replace("\n", "").split("|")]
    assert len(rows) == 30
    assert fleiss_kappa(rows) == pytest.approx(0.430, abs=0.0005)
    assert fleiss_kappa(rows, [2] * 10 + [0] * 20) == pytest.approx(fleiss_kappa(rows[:10]))
    found = fleiss_agreement(rows, list(range(30)), Uncertainty())
    assert found.low < found.value < found.high


def test_a_quadratic_disagreement_by_hand():
    # Squared distances 0, 1, 0, 4: mean 1.25.  By chance over all 16 pairs of (1, 2, 3, 4) and (1, 3, 3, 2).
    first, second = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 3, 2])
    chance = np.mean([(a - b) ** 2 for a in first for b in second])
    assert quadratic_kappa(first, second, np.ones(4)) == pytest.approx(1 - 1.25 / chance)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=3, max_size=40))
def test_kappas_and_ranks_equal_those_of_other_libraries(pairs):
    from scipy.stats import spearmanr
    from sklearn.metrics import cohen_kappa_score

    first, second = np.array(pairs, dtype=float).T
    assume(len(set(first)) > 1 and len(set(second)) > 1)
    ones = np.ones(len(pairs))
    labels = list(range(1, 6))
    as_int = first.astype(int), second.astype(int)
    assert cohen_kappa(first, second, ones) == pytest.approx(cohen_kappa_score(*as_int), abs=1e-9)
    weighted = cohen_kappa_score(*as_int, labels=labels, weights="quadratic")
    assert quadratic_kappa(first, second, ones) == pytest.approx(weighted, abs=1e-9)
    assert spearman(first, second, ones) == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)), min_size=2, max_size=20),
    st.sampled_from(sorted(STATISTICS)),
)
def test_a_weight_is_a_repetition(rows, name):
    first, second, weights = np.array(rows, dtype=float).T
    assume(weights.sum() > 0)
    repeated = np.repeat(first, weights.astype(int)), np.repeat(second, weights.astype(int))
    whole = STATISTICS[name](first, second, weights)
    assert whole == pytest.approx(STATISTICS[name](*repeated, np.ones(len(repeated[0]))), nan_ok=True, abs=1e-9)


def test_a_rater_who_always_says_the_same_has_no_kappa():
    same, other = np.full(4, 7.0), np.array([6.0, 7, 8, 9])
    assert math.isnan(cohen_kappa(same, same, np.ones(4)))
    assert math.isnan(spearman(same, other, np.ones(4)))
    assert agreement(spearman, same, other, "abcd", Uncertainty()) is None


def test_turns_of_one_question_count_as_one():
    """Doubling every row within its question changes neither value nor interval; as rows of their own it would."""
    random = np.random.default_rng(1)
    first = random.integers(1, 6, 40).astype(float)
    second = np.where(random.random(40) < 0.6, first, random.integers(1, 6, 40))
    questions = [str(i) for i in range(40)]
    once = agreement(cohen_kappa, first, second, questions, Uncertainty())
    twice = agreement(
        cohen_kappa,
        np.repeat(first, 2),
        np.repeat(second, 2),
        np.repeat(questions, 2).tolist(),
        Uncertainty(),
    )
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))
    assert once.low < once.value < once.high


def test_the_interval_of_a_kappa_is_the_jackknifes_on_fishers_z():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 2, size=(2, 15)).astype(float)
    kappa = cohen_kappa(first, second, np.ones(15))
    without = [cohen_kappa(np.delete(first, i), np.delete(second, i), np.ones(14)) for i in range(15)]
    scaled = np.arctanh(without)
    error = math.sqrt(14 / 15 * np.sum((scaled - scaled.mean()) ** 2))
    found = agreement(cohen_kappa, first, second, range(15), Uncertainty())
    # t at 14 degrees of freedom, .975: 2.14479.
    ends = [math.tanh(math.atanh(kappa) + side * 2.14479 * error) for side in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-5)


def test_full_agreement_has_an_interval_as_a_share_and_none_as_a_kappa():
    same = np.tile([1.0, 2.0], 10)
    share = agreement(percent_agreement, same, same, range(20), Uncertainty())
    z = 1.959964
    assert (share.low, share.high) == pytest.approx((20 / (20 + z * z), 1.0), abs=1e-6)  # Wilson's 20 of 20
    found = agreement(cohen_kappa, same, same, range(20), Uncertainty())
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_tables_that_are_none_are_refused():
    with pytest.raises(ValueError, match="same two or more ratings"):
        fleiss_kappa([[2, 0], [1, 2]])
    with pytest.raises(ValueError, match="expected as many"):
        agreement(spearman, [1, 2], [1], ["a", "b"], Uncertainty())
