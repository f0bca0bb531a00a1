"""One model's result on one benchmark, from whole metrics down to single items; the input of every table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eval.judges.cost import JudgeCost
from eval.records import ItemScore, Place
from eval.scores.metric_row import MetricRow
from eval.shown import ShownAnswers

GROUPS = ("Pivot", "Sources", "Ensembles", "Baselines", "Targets", "Merged")


@dataclass(frozen=True, kw_only=True)
class JudgedBy:
    """What judging took, and sentences for the report.  `votes`: of a panel, each member's first value by place."""

    costs: tuple[JudgeCost, ...]
    votes: Mapping[str, Mapping[Place, float]]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """`metrics` are in the units of scores.csv (win rates in percent), `items` in inner units (0 to 1).

    Where several runs (seeds) are pooled under one model, an item's question is spelt `<question>@<run>`.  `shown` and
    `judged` are None for what was read back from a table, and for lm-eval.
    """

    model: str
    group: str
    benchmark: str
    metrics: tuple[MetricRow, ...]
    items: tuple[ItemScore, ...]
    shown: ShownAnswers | None = None
    judged: JudgedBy | None = None


def pooled_question(question_id: str, run: str) -> str:
    """The spelling of one run's answer to a question among pooled runs."""
    return f"{question_id}@{run}"


def question_of(question_id: str) -> str:
    """The question, whichever run answered it: what intervals are clustered by."""
    return question_id.rsplit("@", 1)[0]
