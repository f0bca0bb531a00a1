"""Many models, each less its reference on the same questions: intervals and p-values of all of them in one pass.

The flips are those of `sign_flip`; reading them once for all saves the time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eval.scores.intervals import Interval, Uncertainty, clustered_error, group_indices, student_ends
from eval.scores.sign_flip import sign_flip_ps

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The mean of a model less its reference with Student's interval over the questions, its standard error by question
    (None below two), and the two-sided sign-flip p-value."""

    difference: Interval
    standard_error: float | None
    p: float


def paired(
    differences: Float64[NDArray[np.float64], "models rows"], groups: Sequence[Hashable], uncertainty: Uncertainty
) -> list[Paired]:
    """One result for each row of `differences` [models, rows]; `groups` names the question of each column.

    Raises ValueError without columns.
    """
    models, rows = differences.shape
    index, count = group_indices(groups)
    sums = np.stack([np.bincount(index, weights=row, minlength=count) for row in differences]).astype(np.float64)
    ps = sign_flip_ps(sums, seed=uncertainty.seed)
    errors: list[float | None] = [None] * models
    if count > 1:
        errors = clustered_error(sums, np.bincount(index, minlength=count)).tolist()
    found = []
    for mean, error, p in zip(differences.mean(axis=1).tolist(), errors, ps, strict=True):
        low, high = (None, None) if error is None else student_ends(mean, error, count - 1, uncertainty.confidence)
        found.append(Paired(difference=Interval(value=mean, low=low, high=high, n=rows), standard_error=error, p=p))
    return found
