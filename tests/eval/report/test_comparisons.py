"""Two models on the same questions: p-values, their correction over a table, and the dagger that it earns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from eval.files import read_rows
from eval.records import ItemScore
from eval.report.comparisons import compared, smallest_difference
from eval.report.leaderboard_files import latex, markdown, wide_csv
from eval.report.tables import leaderboard, scores_table
from eval.report.write import notes
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow

UNCERTAINTY = Uncertainty()
QUESTIONS = 40


def model(name: str, ratings: list[float]) -> ScoredModel:
    """A model with one rating a question."""
    items = tuple(
        ItemScore(benchmark="mt_bench", metric="rating", question_id=str(i), turn=1, category="c", value=value)
        for i, value in enumerate(ratings)
    )
    value = float(np.mean(ratings))
    row = MetricRow(benchmark="mt_bench", metric="rating", slice="all", value=value, n=len(ratings), unscored=0)
    return ScoredModel(model=name, group="Models", benchmark="mt_bench", metrics=(row,), items=items)


@pytest.fixture
def everyone() -> list[ScoredModel]:
    """`better` gains on 20 questions, `lucky` on 6, and both lose on none; `even` gains on 10 and loses on 10."""
    base = [5.0] * QUESTIONS

    def changed(ups: int, downs: int) -> list[float]:
        return [5.0 + (i < ups) - (ups <= i < ups + downs) for i in range(QUESTIONS)]

    return [
        model("pivot", base),
        model("better", changed(20, 0)),
        model("lucky", changed(6, 0)),
        model("even", changed(10, 10)),
    ]


def column(table: pd.DataFrame, name: str) -> dict[str, float]:
    return dict(zip(table["model"], table[name], strict=True))


def p_value(first: ScoredModel, second: ScoredModel, metric: str, part: str, uncertainty: Uncertainty) -> float | None:
    (found,) = compared([(first, second)], metric, part, uncertainty)
    return found.p if found else None


def errors_marked(degrees: int, level: float) -> float:
    """Errors, as one run estimates them, that a true difference must have for a t test of another to find it in 8 of 10
    cases: both errors are off by chi."""
    off = np.sqrt(stats.chi2.ppf((np.arange(400) + 0.5) / 400, degrees) / degrees)
    bar = stats.t.ppf(1 - level / 2, degrees)
    found = optimize.brentq(lambda errors: stats.nct.sf(bar, degrees, errors * off).mean() - 0.8, 1, 12)
    return float(found)


def test_p_values_are_those_of_the_signs_that_differ(everyone):
    # Only questions that differ matter: 6 gains and no loss are 2 of 2**6 patterns.
    pivot, better, lucky, even = everyone
    error = (2 / 64 * 62 / 64 / 9_999) ** 0.5
    assert p_value(lucky, pivot, "rating", "all", UNCERTAINTY) == pytest.approx(2 / 64, abs=4 * error)
    assert p_value(better, pivot, "rating", "all", UNCERTAINTY) == 1 / 10_000  # none of the flips drawn
    assert p_value(even, pivot, "rating", "all", UNCERTAINTY) == 1
    assert p_value(even, pivot, "rating", "turn2", UNCERTAINTY) is None


def test_scores_carry_each_p_value_and_its_correction_over_the_models_of_the_metric(everyone):
    table = scores_table(everyone, uncertainty=UNCERTAINTY)
    raw, corrected = column(table, "p_to_pivot"), column(table, "p_holm_to_pivot")
    assert np.isnan(raw["pivot"]) and np.isnan(corrected["pivot"])
    assert corrected["better"] == pytest.approx(3 * raw["better"])
    assert corrected["lucky"] == pytest.approx(2 * raw["lucky"])
    assert corrected["even"] == 1
    assert table["p_to_sft"].isna().all()  # there is no such model


def test_a_difference_that_only_looks_like_one_alone_gets_no_dagger(everyone):
    table = scores_table(everyone, uncertainty=UNCERTAINTY)
    assert column(table, "p_to_pivot")["lucky"] < 0.05 < column(table, "p_holm_to_pivot")["lucky"]
    rows = leaderboard(table)
    assert [row.model for row in rows if row.cells[0].differs] == ["better"]
    below = notes(everyone, table, UNCERTAINTY)
    text = markdown(rows, below)
    assert "(+0.50†, +10.00%)" in text  # 5.5 to 5
    assert "(+0.15, +3.00%)" in text
    assert any(note.startswith("† differs from the pivot after Holm") for note in below)
    assert r"\textbf{5.50} ($+10.00$\%)$^\dagger$" in latex(rows, below)
    assert r"\underline{5.15} ($+3.00$\%) &" in latex(rows, below)
    assert "mt_bench.rating.all.p_holm" in wide_csv(rows)


def test_without_a_pivot_nothing_is_marked_or_explained(everyone):
    others = everyone[1:]
    table = scores_table(others, uncertainty=UNCERTAINTY)
    assert not any("†" in note for note in notes(others, table, UNCERTAINTY))
    assert smallest_difference(others, "mt_bench", "rating", "all", "pivot") is None


def test_the_smallest_difference_counts_errors_of_the_paired_differences(everyone):
    pivot, better, *_ = everyone
    differences = [1.0] * 20 + [0.0] * 20
    expected = errors_marked(39, 0.05) * np.std(differences, ddof=1) / np.sqrt(QUESTIONS)
    found = smallest_difference([pivot, better], "mt_bench", "rating", "all", "pivot")
    assert found == pytest.approx(expected, rel=1e-4)


def test_more_models_ask_for_a_larger_difference(everyone):
    pivot, better, *_ = everyone
    alone = smallest_difference([pivot, better], "mt_bench", "rating", "all", "pivot")
    twins = [replace(better, model=f"better {i}") for i in range(10)]
    among = smallest_difference([pivot, better, *twins], "mt_bench", "rating", "all", "pivot")
    assert alone is not None and among is not None
    assert among / alone == pytest.approx(errors_marked(39, 0.05 / 11) / errors_marked(39, 0.05), rel=1e-3)
    (found,) = compared([(better, pivot)], "rating", "all", UNCERTAINTY)
    assert found is not None and found.smallest == pytest.approx(alone)


def test_the_note_names_the_correction_that_the_mark_has(everyone):
    said = notes(everyone, scores_table(everyone, uncertainty=UNCERTAINTY), UNCERTAINTY)
    (sentence,) = [note for note in said if "smallest true difference" in note]
    assert "Holm's correction over 3 models included" in sentence
    expected = smallest_difference(everyone, "mt_bench", "rating", "all", "pivot")
    assert expected is not None and f"about {expected:.2f}." in sentence


@pytest.mark.parametrize(
    ("questions", "models", "possible"), [(5, 1, False), (6, 1, True), (6, 2, False), (7, 3, True)]
)
def test_of_too_few_questions_it_is_said_that_none_can_be_marked(questions, models, possible):
    # The clearest p-value of G questions is 2 / 2**G; times the models it must reach .05.
    assert (models * 2 / 2**questions <= 0.05) is possible
    pivot = model("pivot", [5.0] * questions)
    others = [model(f"m{i}", [6.0 + (q + i) % 2 for q in range(questions)]) for i in range(models)]
    everyone = [pivot, *others]
    table = scores_table(everyone, uncertainty=UNCERTAINTY)
    said = " ".join(notes(everyone, table, UNCERTAINTY))
    assert any(cell.differs for row in leaderboard(table) for cell in row.cells) is possible
    assert ("could be marked, however large" in said) is not possible
    assert ("smallest true difference" in said) is possible
    found = smallest_difference(everyone, "mt_bench", "rating", "all", "pivot")
    assert (found is not None) is possible


def test_models_without_any_spread_between_questions_have_no_smallest_difference():
    same = [model("pivot", [5.0] * 30), model("twin", [5.0] * 30)]
    assert smallest_difference(same, "mt_bench", "rating", "all", "pivot") is None
    (found,) = compared([(same[1], same[0])], "rating", "all", UNCERTAINTY)
    assert found is not None
    assert (found.difference.low, found.difference.high, found.smallest) == (None, None, None)
    said = notes(same, scores_table(same, uncertainty=UNCERTAINTY), UNCERTAINTY)
    assert any(
        "came out alike for pivot, twin" in note and "the widest on its scale, Wilson's" in note for note in said
    )


def test_the_published_ratings_of_four_models_after_correction(data_root):
    """mistral-orpo and three successors, rated by GPT-4 on MT-Bench's 80 questions; of two ratings the later counts."""
    ratings: dict[str, dict[tuple[str, int], float]] = {}
    for row in read_rows(data_root / "mt_bench/model_judgment/mistral-orpo__gpt-4_single.jsonl.gz"):
        if row["score"] > 0:
            ratings.setdefault(row["model"], {})[str(row["question_id"]), row["turn"]] = row["score"]
    scored = []
    for name, found in ratings.items():
        items = tuple(
            ItemScore(
                benchmark="mt_bench",
                metric="rating",
                question_id=question,
                turn=turn,
                category="c",
                value=rating,
            )
            for (question, turn), rating in sorted(found.items())
        )
        row = MetricRow(benchmark="mt_bench", metric="rating", slice="all", value=1.0, n=len(items), unscored=0)
        known = name if name != "mistral-orpo" else "pivot"
        scored.append(ScoredModel(model=known, group="Models", benchmark="mt_bench", metrics=(row,), items=items))
    table = scores_table(scored, uncertainty=Uncertainty()).set_index("model")
    low = table["difference_to_pivot_low"]
    assert low["mistral-orpo-trl"] > 0 and low["mistral-orpo-capybara"] > 0 > low["mistral-orpo-mix"]
    # Alone .0012, .032 and .14; times 3, 2 and 1.
    corrected = table["p_holm_to_pivot"]
    assert corrected["mistral-orpo-trl"] == pytest.approx(0.0036, abs=0.002)
    assert corrected["mistral-orpo-capybara"] == pytest.approx(0.065, abs=0.01)
    assert corrected["mistral-orpo-mix"] == pytest.approx(0.14, abs=0.02)
    smallest = smallest_difference(scored, "mt_bench", "rating", "all", "pivot")
    alone = smallest_difference(
        [entry for entry in scored if entry.model in ("pivot", "mistral-orpo-capybara")],
        "mt_bench",
        "rating",
        "all",
        "pivot",
    )
    # The second's standard error is .2214; it is also the middle one of the three.
    assert alone == pytest.approx(0.2214 * errors_marked(79, 0.05), abs=0.001)
    assert smallest == pytest.approx(0.2214 * errors_marked(79, 0.05 / 3), abs=0.001)
