"""AlpacaEval's rows of scores.csv, from preferences and outputs: win rates in percent, lengths in characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks.pairwise_preference import JudgedPair
from eval.scores import length_control
from eval.scores.fold_order import FOLD_ORDERS
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.length_control import LengthControl
from eval.scores.metric import Metric
from eval.scores.metric_row import MetricRow, mean_row
from eval.scores.win_rate import discrete, win_rate

WIN_RATE = Metric(
    name="win_rate",
    unit="percent",
    decimals=1,
    shown=(("all", "AlpacaEval win rate %"),),
    title="AlpacaEval win rate",
    length_controlled="length_controlled_win_rate",
    proportion=True,
)
METRICS = (
    WIN_RATE,
    Metric(name="length_controlled_win_rate", unit="percent", decimals=1, shown=(("all", "length-controlled %"),)),
    Metric(name="average_length", unit="characters", sense=0, decimals=0, shown=(("all", "length"),)),
    Metric(name="standard_error", unit="percent", sense=0, decimals=1),
    Metric(name="discrete_win_rate", unit="percent", decimals=1, proportion=True),
    Metric(name="length_controlled_standard_error", unit="percent", sense=0, decimals=1),
    Metric(name="length_controlled_standard_error_refit", unit="percent", sense=0, decimals=1),
    Metric(name="length_controlled_win_rate_matched", unit="percent", decimals=1),
    Metric(name="position_bias", unit="percent", sense=0, decimals=1, between=(-50.0, 50.0)),
)
_CONTROLLED = "length_controlled_win_rate"
_ERROR = "length_controlled_standard_error"
# The difficulties and the long and short baselines of the package's model were all judged against this one.
_OFFICIAL_BASELINE = "gpt4_1106_preview"


@dataclass(frozen=True, kw_only=True)
class BaselineComparison:
    """A model beside the baseline, instruction by instruction: `own[i]` None: no answer; `preferences[i]` (1 to 2)
    None: unscored; `absent`: positions of which a replayed file has no row at all.
    """

    baseline_name: str
    baseline: tuple[str, ...]
    own: tuple[str | None, ...]
    preferences: tuple[float | None, ...]
    absent: frozenset[int] = frozenset()

    @property
    def scored(self) -> NDArray[np.intp]:
        """Positions that have a preference."""
        return np.array([i for i, value in enumerate(self.preferences) if value is not None], dtype=np.intp)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Preferences as 0 (baseline) to 1 (model), NaN where unscored."""
        return np.array([math.nan if value is None else value - 1 for value in self.preferences])

    @property
    def lengths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Characters of the model's and the baseline's outputs; a missing answer counts as equally long."""
        pairs = zip(self.own, self.baseline, strict=True)
        own = np.array([len(baseline if said is None else said) for said, baseline in pairs], dtype=np.float64)
        return own, np.array([len(text) for text in self.baseline], dtype=np.float64)

    def empty_row(self, metric: str, reason: str) -> MetricRow:
        """The row of a metric that could not be computed; its counts are already right."""
        count = len(self.scored)
        return MetricRow(
            benchmark="alpaca_eval",
            metric=metric,
            slice="all",
            value=None,
            n=count,
            unscored=len(self.preferences) - count,
            reason=reason,
        )


def win_rate_rows(comparison: BaselineComparison, uncertainty: Uncertainty) -> list[MetricRow]:
    """win_rate, standard_error and discrete_win_rate by the package, the rates with intervals by instruction."""
    preferences = [value for value in comparison.preferences if value is not None]
    rows = [comparison.empty_row(name, "nothing was scored") for name in _RATES]
    if not preferences:
        return rows
    found = win_rate(preferences)
    rate, error, rounded = rows
    if math.isnan(found.standard_error):
        error = replace(error, reason="one item has no standard error")
    else:
        error = replace(error, value=found.standard_error, reason=None)
    shares = [value - 1 for value in preferences]
    return [
        _with_interval(rate, found.win_rate, shares, uncertainty, ends=(0.0, 1.0)),
        error,
        _with_interval(rounded, found.discrete_win_rate, [*map(discrete, preferences)], uncertainty, ends=(0.0, 1.0)),
    ]


def own_set_row(comparison: BaselineComparison, uncertainty: Uncertainty, *, c: float) -> MetricRow:
    """The length-controlled rate on an instruction set of one's own, variant `own_set`."""
    scored = comparison.scored
    shares = comparison.shares[scored]
    own, baseline = (lengths[scored] for lengths in comparison.lengths)
    row = replace(comparison.empty_row(_CONTROLLED, "nothing was scored"), variant="own_set")
    try:
        found = length_control.own_set_interval(shares, own, baseline, c=c, confidence=uncertainty.confidence)
    except ValueError as error:  # equal lengths, lengths that hardly overlap, or nothing scored
        return replace(row, reason=str(error))
    low, high = (None if end is None else 100 * end for end in (found.low, found.high))
    return replace(row, value=100 * found.value, low=low, high=high, reason=None)


def refused_row(comparison: BaselineComparison, *, whole: int) -> MetricRow:
    """No length-controlled rate on a subset drawn here, of `whole` instructions."""
    return comparison.empty_row(
        _CONTROLLED,
        f"{len(comparison.own)} of {whole} instructions were drawn here (limit, only): the length model belongs to the"
        " whole set, and a rate on a part is neither the published one nor comparable with it",
    )


def official_rows(
    comparison: BaselineComparison,
    gamed: Path | None,
    uncertainty: Uncertainty,
    *,
    how: LengthControl,
    c: float,
) -> list[MetricRow]:
    """The length-controlled rate on the 805 official instructions and its standard errors, by the package's function.

    A replayed file with rows missing is reproduced as it was published: the package numbers the rows that are there,
    so the difficulties slip (variant `misaligned_index`); beside it stands the rate with items matched by instruction.
    The package's standard error is that of the mean prediction; `_refit` counts that the
    model was fitted.
    """
    row = comparison.empty_row(_CONTROLLED, "nothing was scored")
    scored = comparison.scored
    if not scored.size:
        return [row]
    if gamed is None:
        return [replace(row, reason="df_gamed.csv was not given: set benchmark.<entry>.gamed")]
    if not gamed.exists():
        return [replace(row, reason=f"{gamed} is not there: python -m eval.benchmark_data fetches it")]
    own, baseline = comparison.lengths
    alike = float(np.ptp(comparison.shares[scored])) < length_control.ALIKE
    same = all(said == text for said, text in zip(comparison.own, comparison.baseline, strict=True))
    if np.ptp((baseline - own)[scored]) == 0 and not same:
        return [replace(row, reason="all answers differ from the baseline's by the same length")]

    def fitted(positions: Sequence[int], variant: str = "") -> tuple[MetricRow, MetricRow]:
        found = _published(comparison, positions, gamed, how, c, same=same)
        names = [variant, "fixed_c" if how == "fixed" else "", how if how in FOLD_ORDERS else ""]
        names.append("" if comparison.baseline_name == _OFFICIAL_BASELINE else "own_baseline")
        rate = replace(
            row, value=found["length_controlled_winrate"], reason=None, variant="+".join(filter(None, names))
        )
        return rate, replace(rate, metric=_ERROR, value=found["lc_standard_error"])

    everything = range(len(comparison.own))
    rate, error = fitted(everything)
    refit = replace(error, metric=f"{_ERROR}_refit", value=None, reason="the model is the baseline itself")
    if not same:
        _, spread = length_control.published_rate_and_error(
            comparison.shares, own, baseline, length_control.gamed_rows(gamed)
        )
        assert rate.value is not None
        ends = length_control.rate_ends(rate.value / 100, spread, len(scored) - 1, uncertainty.confidence)
        low, high = (None if end is None or alike else 100 * end for end in ends)
        rate = replace(rate, low=low, high=high)
        refit = replace(refit, value=100 * spread, reason=None)
    if not comparison.absent:
        return [rate, error, refit]
    present = [position for position in everything if position not in comparison.absent]
    slipped, slipped_error = fitted(present, "misaligned_index")
    return [slipped, replace(rate, metric=f"{_CONTROLLED}_matched"), slipped_error, refit]


def position_bias_row(
    comparison: BaselineComparison, pairs: Sequence[JudgedPair | None], uncertainty: Uncertainty
) -> MetricRow:
    """How much more than half the answer shown first is preferred, in percent points, over pairs shown both ways."""
    row = replace(comparison.empty_row("position_bias", "no pair was judged in both orders"), n=0)
    biases = [pair.first_bias for pair in pairs if pair is not None and pair.first_bias is not None]
    if not biases:
        return row
    return _with_interval(
        replace(row, n=len(biases)), 100 * math.fsum(biases) / len(biases), biases, uncertainty, ends=(-0.5, 0.5)
    )


def length_row(comparison: BaselineComparison, uncertainty: Uncertainty) -> MetricRow:
    """Mean length of the model's answers."""
    lengths = [None if said is None else float(len(said)) for said in comparison.own]
    items = range(len(lengths))
    return mean_row("alpaca_eval", "average_length", "all", lengths, items, uncertainty, reason="no answers")


_RATES = ("win_rate", "standard_error", "discrete_win_rate")


def _with_interval(
    row: MetricRow, value: float, items: Sequence[float], uncertainty: Uncertainty, *, ends: tuple[float, float]
) -> MetricRow:
    found = mean_interval(items, range(len(items)), uncertainty, ends=ends)
    low, high = (None if end is None else 100 * end for end in (found.low, found.high))
    return replace(row, value=value, low=low, high=high, reason=None)


def _published(
    comparison: BaselineComparison, positions: Sequence[int], gamed: Path, how: LengthControl, c: float, *, same: bool
) -> dict[str, float]:
    """The package takes a model under the baseline's name for the baseline; here what it says decides, not its name."""
    shares = comparison.shares
    rows = [
        {
            "output_1": comparison.baseline[i],
            "generator_1": comparison.baseline_name,
            "output_2": comparison.baseline[i] if comparison.own[i] is None else comparison.own[i],
            "generator_2": comparison.baseline_name if same else f"not {comparison.baseline_name}",
            "preference": shares[i] + 1,
        }
        for i in positions
    ]
    return length_control.published(rows, gamed, how, c=c)
