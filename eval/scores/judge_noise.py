"""How much of an uncertainty is the judge's own: repeated verdicts split into what differs between items and what
differs between repetitions.

One-way random-effects analysis of variance with unequal group sizes (Searle, Casella and McCulloch 1992, section 3.6):
item i of k has n_i verdicts y_ij = mean + item_i + noise_ij.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.scores.intervals import Uncertainty, group_indices
from eval.scores.jackknife import LOGARITHM, jackknife_ends


@dataclass(frozen=True, kw_only=True)
class JudgeNoise:
    """The variance of verdicts, divided between items and repetitions."""

    within: float  # variance of a verdict about its item's mean: the judge's own
    between: float  # variance of the items' true values; 0 where the estimate is negative
    items: int
    verdicts: int
    standard_error: float  # of the mean over items of item means
    judge_share: float  # the judge's part of the squared error, which more repetitions lower and more questions do not

    @property
    def judge_sd(self) -> float:
        """Standard deviation of repeated verdicts on one item."""
        return math.sqrt(self.within)


def judge_noise(items: Sequence[Sequence[float]]) -> JudgeNoise:
    """Variance components of repeated verdicts, one sequence per item; items without a verdict are left out.

    Raises ValueError below two items, or when no item has two verdicts.
    """
    groups = [np.asarray(item, dtype=np.float64) for item in items if len(item)]
    sizes = np.array([group.size for group in groups], dtype=np.float64)
    count, total = len(groups), float(sizes.sum())
    if count < 2 or total == count:
        raise ValueError(f"{count} items with {total:g} verdicts: judge noise needs two items, one of them asked twice")
    means = np.array([group.mean() for group in groups])
    squares = np.array([np.sum((group - group.mean()) ** 2) for group in groups])
    grand = float(np.sum(sizes * means) / total)
    within = float(squares.sum() / (total - count))
    mean_square_between = float(np.sum(sizes * (means - grand) ** 2) / (count - 1))
    size = (total - float(np.sum(sizes**2)) / total) / (count - 1)
    between = max(0.0, (mean_square_between - within) / size)
    from_judge = within * float(np.mean(1 / sizes)) / count
    variance = between / count + from_judge
    return JudgeNoise(
        within=within,
        between=between,
        items=count,
        verdicts=int(total),
        standard_error=math.sqrt(variance),
        judge_share=from_judge / variance if variance else 0.0,
    )


def judge_sd_interval(
    items: Sequence[Sequence[float]], questions: Sequence[str], uncertainty: Uncertainty
) -> tuple[float, float] | None:
    """The interval of the standard deviation between repetitions, by the jackknife over questions on the logarithm;
    None below three questions, and where a question alone has all of it or none has any.

    `questions[i]` is the question of item i.
    """
    index, count = group_indices(questions)
    sizes = np.array([len(item) for item in items], dtype=np.intp)
    place = np.repeat(np.arange(len(items)), sizes)
    values = np.fromiter(itertools.chain.from_iterable(items), dtype=np.float64, count=int(sizes.sum()))
    means = np.bincount(place, weights=values, minlength=len(items)) / np.maximum(1, sizes)
    asked = np.bincount(index, weights=np.maximum(0, sizes - 1), minlength=count)
    summed = np.bincount(index[place], weights=(values - means[place]) ** 2, minlength=count)[asked > 0]
    asked = asked[asked > 0]
    if len(asked) < 3:
        return None
    left_out = np.sqrt(np.maximum(0.0, summed.sum() - summed) / (asked.sum() - asked))
    whole = math.sqrt(summed.sum() / asked.sum())
    low, high = jackknife_ends(whole, left_out, LOGARITHM, uncertainty.confidence)
    return None if low is None or high is None else (low, high)
