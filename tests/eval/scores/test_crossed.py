"""Means over runs and questions: errors by hand, and intervals against planted populations of both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import t as student

from eval.scores.crossed import crossed_error, crossed_interval, crossed_mean, smallest_marked, t_interval

ONES = np.ones((5, 20))


def rows_of(table):
    """The values of a table [runs, questions] row by row, with their runs and questions."""
    runs, questions = np.nonzero(~np.isnan(table))
    return table[runs, questions], runs.tolist(), questions.tolist()


def test_where_runs_and_questions_only_add_up_the_error_is_that_of_both_means():
    runs, questions = np.array([0.0, 1, 2, 5, 7]), np.random.default_rng(0).normal(size=20)
    error, _ = crossed_error(runs[:, None] + questions, ONES)
    assert error**2 == pytest.approx(runs.var(ddof=1) / 5 + questions.var(ddof=1) / 20)


def test_of_runs_that_answer_alike_it_is_the_t_interval_over_questions():
    questions = np.random.default_rng(1).normal(size=20)
    found = crossed_mean(*rows_of(np.tile(questions, (5, 1))))
    assert found.degrees == pytest.approx(19)
    expected = student.interval(0.95, 19, loc=questions.mean(), scale=questions.std(ddof=1) / np.sqrt(20))
    assert (found.mean.low, found.mean.high) == pytest.approx(expected)


def test_of_questions_that_are_alike_it_is_the_t_interval_over_runs():
    runs = np.array([1.0, 2, 2, 4, 8])
    found = crossed_mean(*rows_of(np.tile(runs[:, None], (1, 20))))
    expected = student.interval(0.95, 4, loc=runs.mean(), scale=runs.std(ddof=1) / np.sqrt(5))
    assert (found.mean.low, found.mean.high) == pytest.approx(expected)
    assert found.p == pytest.approx(2 * student.sf(runs.mean() / (runs.std(ddof=1) / np.sqrt(5)), 4))


def test_the_mean_squares_of_a_table_by_hand():
    table = np.array([[3.0, 5, 7], [4, 8, 6]])
    # Mean 5.5; runs 5, 6; questions 3.5, 6.5, 6.5; rest 0, -1, 1 and its opposite.
    ms_runs, ms_questions, ms_rest = 3 * 0.5 / 1, 2 * (4 + 1 + 1) / 2, 4 / 2
    # The runs' mean square is below the rest's: the questions' stands alone.
    assert ms_runs < ms_rest < ms_questions
    error, degrees = crossed_error(table, np.ones((2, 3)))
    assert (error**2, degrees) == pytest.approx((ms_questions / 6, 2))


def test_each_factor_counts_once_where_both_have_an_effect():
    table = np.random.default_rng(2).normal(size=(5, 20)) + np.arange(5)[:, None] + np.arange(20)
    mean = table.mean()
    ms_runs = 20 * table.mean(1).var(ddof=1)
    ms_questions = 5 * table.mean(0).var(ddof=1)
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + mean
    ms_rest = np.sum(rest**2) / (4 * 19)
    total = ms_runs + ms_questions - ms_rest
    error, degrees = crossed_error(table, ONES)
    assert error**2 == pytest.approx(total / 100)
    assert degrees == pytest.approx(total**2 / (ms_runs**2 / 4 + ms_questions**2 / 19 + ms_rest**2 / (4 * 19)))


def test_two_turns_of_a_question_are_one_cell():
    """As everywhere: a question is one unit however many rows it has."""
    first, second = np.random.default_rng(3).normal(size=(2, 5, 20))
    rows, runs, questions = rows_of(first)
    both = crossed_mean(np.concatenate([rows, rows_of(second)[0]]), runs * 2, questions * 2)
    means = crossed_mean(*rows_of((first + second) / 2))
    assert both.standard_error == pytest.approx(means.standard_error)
    assert (both.mean.value, both.p, both.mean.n) == pytest.approx((means.mean.value, means.p, 200))


def test_nothing_is_said_of_further_values_where_none_differ():
    found = crossed_mean(np.full(100, 0.5), [i // 20 for i in range(100)], [i % 20 for i in range(100)])
    assert (found.mean.low, found.mean.high, found.standard_error) == (None, None, 0.0)
    assert found.p == 2 / 2**5  # five runs of one sign, of 2**5 ways to turn them
    none = crossed_mean(np.zeros(100), [i // 20 for i in range(100)], [i % 20 for i in range(100)])
    assert none.p == 1.0


@pytest.mark.parametrize("shape", [(1, 20), (5, 1)])
def test_one_run_or_one_question_has_no_error_over_both(shape):
    with pytest.raises(ValueError, match=f"{shape[0]} runs of {shape[1]} questions"):
        crossed_interval(np.random.default_rng(4).normal(size=shape))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_unit_origin_and_order_change_nothing_but_themselves(seed, unit, origin):
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(5, 6)) + generator.normal(size=(5, 1))
    before = crossed_interval(table)
    after = crossed_interval(unit * table[generator.permutation(5)][:, generator.permutation(6)] + origin)
    assert before.low is not None and before.high is not None
    expected = [unit * end + origin for end in (before.value, before.low, before.high)]
    assert [after.value, after.low, after.high] == pytest.approx(expected, rel=1e-6, abs=1e-6 * unit)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_p_is_at_most_five_percent_where_the_interval_leaves_zero_out(seed):
    generator = np.random.default_rng(seed)
    found = crossed_mean(*rows_of(generator.normal(generator.normal(), 1, size=(5, 8))))
    assert found.mean.low is not None and found.mean.high is not None
    assert (found.p <= 0.05) == (not found.mean.low <= 0 <= found.mean.high)


@pytest.mark.parametrize("mean", [0.5, 0.9, 0.999])
def test_an_interval_stays_within_the_scale_and_is_the_plain_one_in_its_middle(mean):
    low, high = t_interval(mean, 0.01, 4, 0.95, (0.0, 1.0))
    assert 0 < low < mean < high < 1
    if mean == 0.5:
        assert (low, high) == pytest.approx(t_interval(mean, 0.01, 4, 0.95), abs=1e-4)
    ten = t_interval(1 + 9 * mean, 9 * 0.01, 4, 0.95, (1.0, 10.0))
    assert ten == pytest.approx((1 + 9 * low, 1 + 9 * high))


def planted(generator, runs, questions, sd, count):
    """So many tables around 0: `sd` are the standard deviations of runs, questions and the rest."""
    shapes = ((count, runs, 1), (count, 1, questions), (count, runs, questions))
    return sum(generator.normal(0, one, size=shape) for one, shape in zip(sd, shapes, strict=True))


def share_covered(tables, truth, sizes=None):
    """How many 95% intervals hold the planted mean."""
    sizes = np.ones(tables.shape) if sizes is None else sizes
    error, degrees = crossed_error(tables, sizes)
    means = tables.sum((1, 2)) / sizes.sum((1, 2))
    return np.mean(np.abs(means - truth) <= stdtrit(degrees, 0.975) * error)


# 2,000 tables: standard error .5 points.
@pytest.mark.parametrize("runs", [5, 8])
@pytest.mark.parametrize("questions", [20, 160])
@pytest.mark.parametrize(
    ("sd", "least", "most"),
    [
        ((1.0, 1.0, 0.7), 0.935, 0.96),  # large effects of runs
        ((0.2, 1.0, 0.7), 0.935, 0.965),
        ((0.0, 1.0, 0.7), 0.935, 0.965),  # none: still right where questions differ
        ((0.0, 0.3, 1.0), 0.95, 0.985),  # neither has much of an effect: conservative
    ],
)
def test_the_interval_covers_a_planted_mean(runs, questions, sd, least, most):
    tables = planted(np.random.default_rng(5), runs, questions, sd, 2_000)
    assert least <= share_covered(tables, 0.0) <= most


def test_over_questions_alone_it_would_not():
    """What pooling seeds within questions gave: runs that differ by a fifth of what questions do."""
    tables = planted(np.random.default_rng(6), 5, 160, (0.2, 1.0, 0.7), 2_000)
    by_question = tables.mean(1)
    error = by_question.std(1, ddof=1) / np.sqrt(160)
    assert np.mean(np.abs(by_question.mean(1)) <= stdtrit(159, 0.975) * error) < 0.85


def test_it_covers_where_a_tenth_was_not_scored():
    generator = np.random.default_rng(7)
    tables = planted(generator, 5, 60, (0.3, 1.0, 0.7), 2_000) + 5.0
    scored = (generator.random(tables.shape) < 0.9).astype(float)
    assert 0.935 <= share_covered(tables * scored, 5.0, scored) <= 0.965
    missing = np.where(scored[0] == 1, tables[0], np.nan)
    error, degrees = crossed_error(tables[0] * scored[0], scored[0])
    found = crossed_interval(missing)
    assert found.n == scored[0].sum()
    assert (found.low, found.high) == pytest.approx(t_interval(np.nanmean(missing), float(error), float(degrees), 0.95))


def test_ratings_near_the_top_are_covered_by_an_interval_that_ends_below_it():
    """Plain t intervals of the same tables cover 91%: they end above 10 and begin too high."""
    generator = np.random.default_rng(8)
    latent = generator.normal(10, np.sqrt(0.7**2 + 0.7**2 + 1), size=2_000_000)
    truth = np.clip(np.round(latent), 1, 10).mean()
    tables = np.clip(np.round(10 + planted(generator, 5, 40, (0.7, 0.7, 1.0), 1_000)), 1, 10)
    found = [crossed_interval(table, ends=(1.0, 10.0)) for table in tables]
    ends = [(one.low, one.high) for one in found if one.low is not None and one.high is not None]
    assert len(ends) == 1_000 and all(1 < low < high < 10 for low, high in ends)
    assert 0.925 <= np.mean([low <= truth <= high for low, high in ends]) <= 0.965
    plain = [crossed_interval(table) for table in tables]
    assert np.mean([one.low <= truth <= one.high for one in plain]) < 0.925


@pytest.mark.parametrize(("degrees", "family"), [(4, 1), (4, 40), (19, 40), (644, 11)])
def test_a_difference_of_the_printed_size_is_marked_in_eight_of_ten_runs(degrees, family):
    """Each of 40,000 runs prints a size by its own error, and another is asked to mark a difference of that size."""
    generator = np.random.default_rng(9)
    printed, own = np.sqrt(generator.chisquare(degrees, size=(2, 40_000)) / degrees)
    size = smallest_marked(1.0, degrees, level=0.05 / family) * printed
    t = generator.normal(size, 1) / own
    assert np.mean(np.abs(t) > stdtrit(degrees, 1 - 0.025 / family)) == pytest.approx(0.8, abs=0.01)


def test_with_many_degrees_the_smallest_difference_is_cohens():
    assert smallest_marked(2.0, 1e6, level=0.05) == pytest.approx(2 * 2.80, abs=0.01)
