"""MT-Bench as fastchat counts it: the mean over all rows of a judgment file that are not -1, or not an error.

A re-run appends, so a question that was judged twice counts twice, and a failed judgment leaves no trace.  These rows
stand beside ours (one verdict per question and turn) wherever the two can differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from eval.benchmarks.fastchat.files import NO_SCORE, JudgmentRow
from eval.benchmarks.fastchat.single_rating import HIGHEST, LOWEST
from eval.records import Question
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow, mean_row


def counted_alike(rows: Sequence[JudgmentRow]) -> bool:
    """Whether one model's rows hold one readable rating per question and turn, so that both ways of counting agree."""
    places = {(row["question_id"], row["turn"]) for row in rows}
    return len(places) == len(rows) and all(LOWEST <= row["score"] <= HIGHEST for row in rows)


def fastchat_rows(
    rows: Sequence[JudgmentRow], questions: Sequence[Question], uncertainty: Uncertainty
) -> list[MetricRow]:
    """`rating_fastchat` over all of one model's rows, each turn and each category; `unscored` counts its -1 rows."""
    values = [None if row["score"] == NO_SCORE else float(row["score"]) for row in rows]
    return _slices("mt_bench", "rating_fastchat", rows, values, questions, uncertainty, (LOWEST, HIGHEST))


def fastchat_pair_rows(
    rows: Sequence[JudgmentRow], model: str, questions: Sequence[Question], uncertainty: Uncertainty
) -> list[MetricRow]:
    """`pairwise_win_rate_fastchat` (percent) over all of one model's pairs; `unscored` counts those with an error."""
    outcomes = [outcome(row, model) for row in rows]
    values = [None if found is None else 100 * found for found in outcomes]
    return _slices(
        "mt_bench_pairwise", "pairwise_win_rate_fastchat", rows, values, questions, uncertainty, (0.0, 100.0)
    )


def outcome(row: JudgmentRow, model: str) -> float | None:
    """1 where `model` won both games of a pair's row, 0 where the other did, else 0.5; None for an error."""
    first, second = row["g1_winner"], row["g2_winner"]
    if "error" in (first, second):
        return None
    if first == "tie" or first != second:
        return 0.5
    return float(row[first] == model)


def _slices(
    benchmark: str,
    metric: str,
    rows: Sequence[JudgmentRow],
    values: Sequence[float | None],
    questions: Sequence[Question],
    uncertainty: Uncertainty,
    ends: tuple[float, float],
) -> list[MetricRow]:
    category = {question.id: question.category for question in questions}
    every = range(len(rows))
    slices = {"all": [*every]}
    for turn in (1, 2):
        slices[f"turn{turn}"] = [place for place in every if rows[place]["turn"] == turn]
    for name in dict.fromkeys(category.values()):
        slices[name] = [place for place in every if category.get(str(rows[place]["question_id"])) == name]
    asked = [row["question_id"] for row in rows]
    return [
        mean_row(
            benchmark, metric, name, [values[at] for at in places], [asked[at] for at in places], uncertainty, ends=ends
        )
        for name, places in slices.items()
    ]
