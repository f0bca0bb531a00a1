"""The interval of a mean whose values lie between known ends: shares, percentages, ratings.

Wilson's (1927) score interval asks of every candidate p whether the sample's mean m lies within z of p's *own* standard
errors.  For right or wrong answers that error is sqrt(p (1 - p) / n), so the interval never leaves the scale, is longer
towards its middle, and has width where all answers were right.  For other values the error is smaller.  How much
smaller is measured: v / (m (1 - m)), with v the variance between questions, is the design effect of survey statistics
(Kish 1965), and Wilson's formula with n divided by it is what is recommended there for clustered shares (Kott and Carr
1997; Franco, Little, Louis and Slud 2019).

Three things are ours.

* The t quantile stands in for z as far as the variance is measured and not known: by the share of questions that lie
  strictly between the ends.  Questions at an end have the variance of a coin, which their mean gives.
* Where all questions came out alike, in the middle of the scale too, the effect is that of a coin: no distribution
  between the ends varies more.
* A sample whose questions nearly all lie at one end hardly shows its variance: nine ratings of 10 and one of 9 say
  little about how low the next may be.  So the measured effect is averaged with that of a coin, the former weighed by
  the number of questions between the ends, the latter by the share of those at the ends: at most one question's weight.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Float64

# How near an end, in parts of the scale, a question's mean counts as at it: what tables print as the same.
_AT_END = 0.005
# Questions whose means deviate by no more than this, in parts of the scale, came out alike.
_ALIKE = 5e-4


def bounded_mean_ends(
    sums: Float64[NDArray[np.float64], " questions"],
    sizes: Float64[NDArray[np.float64], " questions"],
    confidence: float,
) -> tuple[float, float]:
    """The interval of sum(sums) / sum(sizes) for two questions or more; each has `sizes` values from 0 to 1 that add up
    to `sums`.
    """
    questions, rows = len(sizes), float(sizes.sum())
    mean = min(1.0, max(0.0, float(sums.sum()) / rows))
    # In units of a coin's variance over as many questions; above 1 for questions of unequal size (Kish 1965).
    coin = questions * float(np.sum(sizes**2)) / rows**2
    measured = questions * float(np.sum((sums - mean * sizes) ** 2)) / rows**2
    normal, student = _squared_quantiles(questions, confidence)
    if measured < _ALIKE**2:
        return score_ends(mean, coin * normal / questions)
    shares = sums / sizes
    between = int(np.count_nonzero((shares > _AT_END) & (shares < 1 - _AT_END)))
    at_ends = 1 - between / questions
    effect = (between * measured / (mean * (1 - mean)) + at_ends * coin) / (between + at_ends)
    squared = effect * (at_ends * normal / questions + (1 - at_ends) * student / (questions - 1))
    return score_ends(mean, squared)


def score_ends(share: float, squared: float) -> tuple[float, float]:
    """The shares p with (share - p)^2 <= `squared` * p (1 - p): Wilson's interval where `squared` is z^2 / n."""
    centre = share + squared / 2
    reach = math.sqrt(squared * share * (1 - share) + squared**2 / 4)
    low, high = ((centre + sign * reach) / (1 + squared) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


@functools.lru_cache(maxsize=256)
def _squared_quantiles(questions: int, confidence: float) -> tuple[float, float]:
    """z^2, and t^2 with a degree of freedom less than there are questions."""
    from scipy.special import stdtrit  # loads in a third of a second

    above = (1 + confidence) / 2
    return NormalDist().inv_cdf(above) ** 2, float(stdtrit(questions - 1, above)) ** 2
