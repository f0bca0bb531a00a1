"""A planted truth of one kind of interval, and how often its intervals hold it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from eval.scores.intervals import Ends, Interval, Uncertainty

TIMES = 10_000
CLAIM = Uncertainty()
# The band that an interval which claims 95% should lie in.
BAND = (0.94, 0.96)

# Planted truth and the interval found, for each sample.
Samples = Iterator[tuple[float, Ends]]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A truth of one kind of interval.  `asked` is the function of `eval.scores` that a table calls; `samples` draws
    so many samples and gives the interval of each, `times` of them for the printed table.  `band`: where its coverage
    lies, with the reason (`why`) where that is not BAND."""

    kind: str
    asked: Callable[..., object]
    truth: str
    questions: int
    samples: Callable[[np.random.Generator, int], Samples]
    band: tuple[float, float] = BAND
    why: str = ""
    times: int = TIMES

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.truth}, n = {self.questions}"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of the samples with an interval: the share whose interval holds the truth, and its mean width; and the share
    without one.  Both are NaN where no sample had one."""

    held: float
    width: float
    refused: float


def coverage(planted: Planted, *, times: int | None = None) -> Coverage:
    """Draw so many samples of a planted truth, by default its own number; the same ones each time."""
    times = times or planted.times
    held, widths = 0, []
    generator = np.random.default_rng(zlib.crc32(planted.name.encode()))
    for truth, (low, high) in planted.samples(generator, times):
        if low is not None and high is not None:
            held += low - 1e-9 <= truth <= high + 1e-9
            widths.append(high - low)
    given = len(widths)
    return Coverage(
        held=held / given if given else math.nan,
        width=float(np.mean(widths)) if given else math.nan,
        refused=1 - given / times,
    )


def ends_of(found: Interval | None) -> Ends:
    """The ends of an interval, or none."""
    return (None, None) if found is None or found.low is None or found.high is None else (found.low, found.high)
