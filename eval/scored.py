"""One model's result on one benchmark, from whole metrics down to single items; the input of every table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eval.records import Answer, ItemScore, Place, Question, Unscored, Verdict
from eval.scores.metric_row import MetricRow

GROUPS = ("Pivot", "Sources", "Ensembles", "Baselines", "Targets", "Merged")


@dataclass(frozen=True, kw_only=True)
class JudgeCost:
    """What one judge took for one model on one benchmark.  `asked`: replies of this run, the others are from before;
    tokens and `money` are those of all replies, failed attempts included where the endpoint counted them.
    """

    model: str
    benchmark: str
    judge: str
    layer: int
    replies: int
    asked: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None


@dataclass(frozen=True, kw_only=True)
class ShownAnswers:
    """What a reader can look up behind one model's scores; no number is computed from it.

    `opponents` are the answers that the judge saw beside the model's, each under its own model's name.
    """

    questions: tuple[Question, ...]
    answers: tuple[Answer, ...]
    opponents: tuple[Answer, ...]
    verdicts: tuple[Verdict | Unscored, ...]


@dataclass(frozen=True, kw_only=True)
class JudgedBy:
    """What judging took, and sentences for the report.  `votes`: of a panel, each member's first value by place."""

    costs: tuple[JudgeCost, ...]
    votes: Mapping[str, Mapping[Place, float]]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ItemColumns:
    """The items of one metric side by side; `places` are question and turn, `values` NaN where an item has none."""

    places: tuple[tuple[str, int], ...]
    questions: tuple[str, ...]
    turns: NDArray[np.int64]
    categories: NDArray[np.object_]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, items: Sequence[ItemScore]) -> ItemColumns:
        return cls(
            places=tuple((item.question_id, item.turn) for item in items),
            questions=tuple(question_of(item.question_id) for item in items),
            turns=np.array([item.turn for item in items], dtype=np.int64),
            categories=np.array([item.category for item in items], dtype=np.object_),
            values=np.array([np.nan if item.value is None else item.value for item in items], dtype=np.float64),
        )

    @functools.cached_property
    def runs(self) -> tuple[str, ...]:
        """The run that gave each item, where runs are pooled."""
        return tuple(run_of(question) for question, _ in self.places)

    def within(self, slice_name: str) -> NDArray[np.bool_]:
        """Which items belong to `all`, `turn1`, `turn2` or a category."""
        if slice_name == "all":
            return np.ones(len(self.places), dtype=bool)
        if slice_name in ("turn1", "turn2"):
            return np.asarray(self.turns == int(slice_name[-1]), dtype=bool)
        return np.asarray(self.categories == slice_name, dtype=bool)

    def at(self, places: tuple[tuple[str, int], ...]) -> NDArray[np.float64]:
        """The values at other items' places, NaN where there is none."""
        if places == self.places:
            return self.values
        known = dict(zip(self.places, self.values, strict=True))
        return np.array([known.get(place, np.nan) for place in places])


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A model's results on one benchmark."""

    model: str
    """As tables print it: the row's name, behind it the settings where a row stands for one of several."""
    group: str
    benchmark: str
    metrics: tuple[MetricRow, ...]
    """In the units of scores.csv: win rates in percent."""
    items: tuple[ItemScore, ...]
    """In inner units, 0 to 1.  Where several runs (seeds) are pooled, a question is spelt `<question>@<run>`."""
    shown: ShownAnswers | None = None
    """None for what was read back from a table, and for lm-eval."""
    judged: JudgedBy | None = None
    """None where `shown` is."""
    row: str = ""
    """The row's own name, which no label changes; `model` where nothing else is given."""
    role: str = ""
    """What it is in the recipe: pivot, source, sft, multi, target, merged, ensemble, oracle; `row` where it has no part
    in it."""
    oracle: str = ""
    """Of an oracle what it knows that no system could; empty for what is fair."""
    runs: Mapping[str, str] = field(default_factory=dict)
    """Of a pooled model what answered in each run, by the run's name: the key of its weights, or of its answers where
    nothing was trained for it.  Runs with one key are one run repeated.  Empty for a single run."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", self.row or self.model)
        object.__setattr__(self, "role", self.role or self.row)

    @functools.cached_property
    def columns(self) -> Mapping[str, ItemColumns]:
        """The items by metric, as arrays."""
        by_metric: dict[str, list[ItemScore]] = {}
        for item in self.items:
            by_metric.setdefault(item.metric, []).append(item)
        return {metric: ItemColumns.of(items) for metric, items in by_metric.items()}


def pooled_question(question_id: str, run: str) -> str:
    """The spelling of one run's answer to a question among pooled runs."""
    return f"{question_id}@{run}"


def question_of(question_id: str) -> str:
    """The question, whichever run answered it: what intervals are clustered by."""
    return question_id.rsplit("@", 1)[0]


def run_of(question_id: str) -> str:
    """The run that answered, of a question among pooled runs."""
    return question_id.rsplit("@", 1)[-1]


def draws_of(*models: ScoredModel) -> tuple[str, ...]:
    """The runs that all of these pooled models have, one of each that differ in the weights of none of them."""
    shared = [run for run in models[0].runs if all(run in model.runs for model in models)]
    by_weights = {tuple(model.runs[run] for model in models): run for run in reversed(shared)}
    kept = {*by_weights.values()}
    return tuple(run for run in shared if run in kept)
