"""MT-Bench ratings as fastchat counts them: the mean over all rows of a judgment file that are not -1.

A re-run appends, so a question that was judged twice counts twice, and a failed judgment leaves no trace.  These rows
stand beside ours (one verdict per question and turn) wherever the two can differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.benchmarks.single_rating import HIGHEST, LOWEST
from eval.judges.recorded_judgments import NO_SCORE
from eval.records import Question
from eval.scores.intervals import Bootstrap, mean_interval
from eval.scores.metric_row import MetricRow

Row = Mapping[str, Any]


def counted_alike(rows: Sequence[Row]) -> bool:
    """Whether one model's rows hold one readable rating per question and turn, so that both ways of counting agree."""
    places = {(row["question_id"], row["turn"]) for row in rows}
    return len(places) == len(rows) and all(LOWEST <= row["score"] <= HIGHEST for row in rows)


def fastchat_rows(rows: Sequence[Row], questions: Sequence[Question], bootstrap: Bootstrap) -> list[MetricRow]:
    """`rating_fastchat` over all of one model's rows, each turn and each category; `unscored` counts its -1 rows."""
    category = {question.id: question.category for question in questions}
    slices = {"all": list(rows)}
    for turn in (1, 2):
        slices[f"turn{turn}"] = [row for row in rows if row["turn"] == turn]
    for name in dict.fromkeys(category.values()):
        slices[name] = [row for row in rows if category.get(str(row["question_id"])) == name]
    return [_row(name, found, bootstrap) for name, found in slices.items()]


def _row(name: str, rows: Sequence[Row], bootstrap: Bootstrap) -> MetricRow:
    kept = [row for row in rows if row["score"] != NO_SCORE]
    found = None
    if kept:
        found = mean_interval([row["score"] for row in kept], [row["question_id"] for row in kept], bootstrap)
    return MetricRow(
        benchmark="mt_bench",
        metric="rating_fastchat",
        slice=name,
        value=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        n=len(kept),
        unscored=len(rows) - len(kept),
        reason=None if found else "nothing was scored",
    )
