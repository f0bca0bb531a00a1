"""Whether two settings put the models in the same order: Spearman's correlation over models, question by question."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ablations.cell import Cell
from ablations.studies.arms import MEAN_OF_TARGETS, Arm, arms_of
from ablations.studies.measures import measures_of
from eval.markdown import markdown_table
from eval.report.tables import Heading
from eval.scored import ItemColumns, ScoredModel
from eval.scores.agreement import spearman
from eval.scores.intervals import Bootstrap, Interval, percentile_interval, resample_counts


def rank_agreement(first: NDArray[np.float64], second: NDArray[np.float64], bootstrap: Bootstrap) -> Interval | None:
    """Spearman's correlation of the models' means under two settings, `first` and `second` [models, questions].

    The interval resamples the questions, which both settings share; models are taken as they are.  None where a
    setting gives all models one mean.
    """
    models, questions = first.shape
    even = np.ones(models)
    value = spearman(first.mean(1), second.mean(1), even)
    if math.isnan(value):
        return None
    if questions < 2:
        return Interval(value=value, low=None, high=None, n=models)
    counts = resample_counts(questions, bootstrap)
    drawn = zip(counts @ first.T, counts @ second.T, strict=True)
    draws = np.array([spearman(left, right, even) for left, right in drawn])
    low, high = percentile_interval(draws[~np.isnan(draws)], bootstrap.confidence)
    return Interval(value=value, low=low, high=high, n=models)


def ranking_table(cells: Sequence[Cell], bootstrap: Bootstrap) -> list[str]:
    """A Markdown table: for every two settings of the cells, how far they rank the same models alike."""
    settings: dict[str, list[Arm]] = {}
    for arm in arms_of(cells, bootstrap):
        if arm.model != MEAN_OF_TARGETS:
            settings.setdefault(", ".join(f"{axis}={value}" for axis, value in arm.axes.items()), []).append(arm)
    rows = []
    for (one, left), (other, right) in itertools.combinations(settings.items(), 2):
        for measure in measures_of(scored for arm in left for scored in arm.scored.values()):
            first, second = (
                {
                    arm.model: _by_question(scored, measure)
                    for arm in arms
                    if (scored := arm.scored.get(measure.benchmark))
                }
                for arms in (left, right)
            )
            models = [model for model in first if model in second]
            shared = [first[model].keys() & second[model].keys() for model in models]
            questions = sorted(set.intersection(*shared)) if shared else []
            if not questions:
                continue
            ours, theirs = (np.array([[given[m][q] for q in questions] for m in models]) for given in (first, second))
            found = rank_agreement(ours, theirs, bootstrap)
            rows.append([one, other, measure.title, _spelt(found), str(len(models)), str(len(questions))])
    return [
        "",
        "Do they rank the models alike?  Spearman's correlation over models, interval by resampling questions:",
        "",
        *markdown_table(("one", "other", "benchmark", "correlation", "models", "questions"), rows),
    ]


def _by_question(scored: ScoredModel, measure: Heading) -> Mapping[str, float]:
    """The mean over a question's turns and runs; questions with nothing scored are left out."""
    columns = scored.columns.get(measure.metric) or ItemColumns.of([])
    values: dict[str, list[float]] = {}
    for place in np.flatnonzero(columns.within(measure.slice) & ~np.isnan(columns.values)):
        values.setdefault(columns.questions[place], []).append(columns.values[place])
    return {question: float(np.mean(found)) for question, found in values.items()}


def _spelt(found: Interval | None) -> str:
    if found is None:
        return "undefined: all models score alike"
    interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{interval}"
