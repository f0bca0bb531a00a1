"""Many models, each less its reference on the same questions: intervals and p-values of all of them in one pass.

The resamples and the flips are those of `intervals` and `sign_flip`; reading them once for all saves the time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eval.scores.intervals import (
    Bootstrap,
    Ends,
    Interval,
    clustered_error,
    group_indices,
    percentile_interval,
    resample_counts,
)
from eval.scores.sign_flip import sign_flip_ps

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The mean of a model less its reference, its standard error by question (None below two), and the two-sided
    sign-flip p-value."""

    difference: Interval
    standard_error: float | None
    p: float


def paired(
    differences: Float64[NDArray[np.float64], "models rows"], groups: Sequence[Hashable], bootstrap: Bootstrap
) -> list[Paired]:
    """One result for each row of `differences` [models, rows]; `groups` names the question of each column.

    Raises ValueError without columns.
    """
    models, rows = differences.shape
    index, count = group_indices(groups)
    sums = np.stack([np.bincount(index, weights=row, minlength=count) for row in differences]).astype(np.float64)
    ps = sign_flip_ps(sums, seed=bootstrap.seed)
    means = differences.mean(axis=1)
    bounds: list[Ends] = [(None, None)] * models
    errors: list[float | None] = [None] * models
    if count > 1:
        counts = resample_counts(count, bootstrap)
        sizes = np.bincount(index, minlength=count).astype(np.float64)
        errors = clustered_error(sums, sizes).tolist()
        draws = (counts @ sums.T) / (counts @ sizes)[:, None]
        bounds = [percentile_interval(column, bootstrap.confidence) for column in draws.T]
    return [
        Paired(difference=Interval(value=float(mean), low=low, high=high, n=rows), standard_error=error, p=p)
        for mean, (low, high), error, p in zip(means, bounds, errors, ps, strict=True)
    ]
