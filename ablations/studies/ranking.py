"""Whether two settings put the models in the same order: Spearman's correlation over models.

It has no interval.  The noise of the questions makes two orders look less alike than they are, and drawing the
questions anew adds as much noise again: for 12 models of one true order, 1.5 rating points of noise and means .3 apart,
a percentile interval over 80 questions never once held the true correlation of 1 in 200 simulations, over 645 neither.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ablations.cell import Cell, setting
from ablations.studies.arms import MEAN_OF_TARGETS, Arm, arms_of
from ablations.studies.measures import measures_of
from eval.markdown import markdown_table
from eval.report.tables import Heading
from eval.scored import ItemColumns, ScoredModel
from eval.scores.agreement import spearman
from eval.scores.intervals import Uncertainty


def rank_agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's correlation of the models' means under two settings, `first` and `second` [models, questions]; None
    where a setting gives all models one mean."""
    value = float(spearman(first.mean(1), second.mean(1), np.ones(len(first))))
    return None if math.isnan(value) else value


def ranking_table(cells: Sequence[Cell], uncertainty: Uncertainty) -> list[str]:
    """A Markdown table: for every two settings of the cells, how far they rank the same models alike."""
    settings: dict[str, list[Arm]] = {}
    for arm in arms_of(cells, uncertainty):
        if arm.model != MEAN_OF_TARGETS:
            settings.setdefault(setting(arm.axes), []).append(arm)
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
            found = rank_agreement(ours, theirs)
            rows.append([one, other, measure.title, _spelt(found), str(len(models)), str(len(questions))])
    return [
        "",
        "Do they rank the models alike?  Spearman's correlation over models.  It has no interval: the noise of the"
        " questions lowers it, and no interval over questions holds the true one as often as it says.",
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


def _spelt(found: float | None) -> str:
    return "undefined: all models score alike" if found is None else f"{found:.2f}"
