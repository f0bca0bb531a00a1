"""One cell of a result table, as it goes into scores.csv."""

from __future__ import annotations

from dataclasses import dataclass


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
