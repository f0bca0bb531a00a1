"""The interval of a statistic that is no mean (kappa, a correlation, a standard deviation), by leaving questions out.

Tukey (1958): the statistic without each question in turn tells its standard error, and the interval is Student's.  It
is taken on a scale on which the statistic is nearer to normal and cannot leave its range: Fisher's (1915) z for what
lies between -1 and 1, the logarithm for what is positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.scores.intervals import Ends, student_ends

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class Scale:
    """To a scale without bounds, and back."""

    forth: Callable[[ArrayLike], NDArray[np.float64]]
    back: Callable[[ArrayLike], NDArray[np.float64]]


FISHER_Z = Scale(forth=np.arctanh, back=np.tanh)
LOGARITHM = Scale(forth=np.log, back=np.exp)
# On either scale: what lies so far out is a bound of the range, missed by the rounding of sums.
_AT_BOUND = 17.0


def jackknife_ends(
    estimate: float, left_out: Float64[NDArray[np.float64], " questions"], scale: Scale, confidence: float
) -> Ends:
    """The interval of `estimate`, with `left_out` the statistic without each of the questions.

    None below three questions, where some of these is not defined, at a bound of its range (full agreement, a judge
    that never varies), and where leaving a question out changes nothing.
    """
    questions = len(left_out)
    if questions < 3:
        return None, None
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, parts = float(scale.forth(estimate)), scale.forth(left_out)
        error = math.sqrt((questions - 1) / questions * float(np.sum((parts - parts.mean()) ** 2)))
    if not (math.isfinite(whole) and math.isfinite(error)) or abs(whole) > _AT_BOUND:
        return None, None
    low, high = student_ends(whole, error, questions - 1, confidence)
    return (None, None) if low is None or high is None else (float(scale.back(low)), float(scale.back(high)))
