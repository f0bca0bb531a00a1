"""One cell of a result table, as it goes into scores.csv."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from eval.scores.intervals import Uncertainty, mean_interval


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A metric over a slice of items, in the unit of scores.csv (ratings 1 to 10, win rates in percent)."""

    benchmark: str
    metric: str
    slice: str
    value: float | None  # None, with a `reason`, when the metric cannot be computed
    low: float | None = None  # the interval, where one was computed
    high: float | None = None
    n: int  # items behind `value`
    unscored: int  # items left out
    reason: str | None = None
    variant: str = ""  # a departure from the published definition (such as `own_set`); empty: the published one

    def __post_init__(self) -> None:
        if (self.value is None) != (self.reason is not None):
            raise ValueError(f"{self.metric} on {self.slice} needs either a value or a reason")


def mean_row(
    benchmark: str,
    metric: str,
    slice_name: str,
    values: Sequence[float | None],
    groups: Sequence[Hashable],
    uncertainty: Uncertainty,
    *,
    reason: str = "nothing was scored",
    ends: tuple[float, float] | None = None,
) -> MetricRow:
    """The mean over the items that have a value, with its interval clustered by `groups` (`ends`: as `mean_interval`
    takes them); `reason`: why there is none, where none has.
    """
    scored = [(value, group) for value, group in zip(values, groups, strict=True) if value is not None]
    row = MetricRow(
        benchmark=benchmark,
        metric=metric,
        slice=slice_name,
        value=None,
        n=len(scored),
        unscored=len(values) - len(scored),
        reason=reason,
    )
    if not scored:
        return row
    found = mean_interval([value for value, _ in scored], [group for _, group in scored], uncertainty, ends=ends)
    return replace(row, value=found.value, low=found.low, high=found.high, reason=None)
