"""Scores to tables: the long scores.csv, and the leaderboard in Markdown, CSV and LaTeX.

Rounding is decided here and nowhere else: ratings to two decimals, percentages to one, lengths to none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from eval.records import ItemScore
from eval.scored import GROUPS, ScoredModel, question_of
from eval.scores.intervals import (
    Bootstrap,
    Interval,
    clustered_standard_error,
    minimum_detectable_difference,
    paired_difference,
)

SCORE_COLUMNS = ["model", "group", "benchmark", "metric", "slice", "value", "low", "high", "n", "unscored"]
PERCENT_METRICS = frozenset({"win_rate", "discrete_win_rate", "length_controlled_win_rate", "standard_error"})
# What the leaderboard shows of a benchmark: (metric, slice, heading).  Other benchmarks show every metric they have.
HEADINGS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "mt_bench": (
        ("rating", "all", "MT-Bench"),
        ("rating", "turn1", "turn 1"),
        ("rating", "turn2", "turn 2"),
    ),
    "alpaca_eval": (
        ("win_rate", "all", "AlpacaEval win rate %"),
        ("length_controlled_win_rate", "all", "length-controlled %"),
        ("average_length", "all", "length"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Heading:
    """One shown column of the leaderboard."""

    benchmark: str
    metric: str
    slice: str
    title: str

    @property
    def decimals(self) -> int:
        """Digits after the point."""
        if self.metric == "average_length":
            return 0
        return 1 if self.metric in PERCENT_METRICS else 2

    @property
    def ranked(self) -> bool:
        """Whether larger is better, so that a best can be marked."""
        return self.metric != "average_length"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model under one heading, as in `scores_table`, not yet rounded; without a value `reason` says why.

    `difference` is to the pivot.  `rank` is 1 for the best of the column, 2 for the second, else 0.
    """

    heading: Heading
    value: float | None
    low: float | None
    high: float | None
    n: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    rank: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One model of the leaderboard, a cell under each heading; `unscored` counts missing ratings and preferences."""

    group: str
    model: str
    unscored: int
    cells: tuple[Cell, ...]


def scores_table(
    scored: Sequence[ScoredModel], *, bootstrap: Bootstrap, against: Sequence[str] = ("pivot", "sft")
) -> pd.DataFrame:
    """One row per model, benchmark, metric and slice: SCORE_COLUMNS, `reason`, `variant`, and for each model in
    `against` the difference to it, paired by question (`difference_to_<model>`, `_low`, `_high`).

    A difference is empty where the metric has no items (length-controlled rates are fits, not means) or the other
    model was not scored.
    """
    by_key = {(entry.model, entry.benchmark): entry for entry in scored}
    rows = []
    for entry in scored:
        for metric in entry.metrics:
            row: dict[str, object] = {
                "model": entry.model,
                "group": entry.group,
                "benchmark": entry.benchmark,
                "metric": metric.metric,
                "slice": metric.slice,
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "n": metric.n,
                "unscored": metric.unscored,
                "reason": metric.reason or "",
                "variant": metric.variant,
            }
            for other in against:
                found = None
                if other != entry.model and (other, entry.benchmark) in by_key:
                    reference = by_key[other, entry.benchmark]
                    found = difference(entry, reference, metric.metric, metric.slice, bootstrap)
                row |= {
                    f"difference_to_{other}": found.value if found else None,
                    f"difference_to_{other}_low": found.low if found else None,
                    f"difference_to_{other}_high": found.high if found else None,
                }
            rows.append(row)
    differences = [f"difference_to_{other}{end}" for other in against for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*SCORE_COLUMNS, "reason", "variant", *differences])


def difference(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str, bootstrap: Bootstrap
) -> Interval | None:
    """Mean of `first - second` over the items both were scored on, in the unit of scores.csv; None without any."""
    pairs = paired_items(first, second, metric, slice_name)
    if not pairs:
        return None
    scale = 100.0 if metric in PERCENT_METRICS else 1.0
    left, right = (scale * np.array([pair[side] for pair in pairs]) for side in (1, 2))
    return paired_difference(left, right, [pair[0] for pair in pairs], bootstrap)


def paired_items(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str
) -> list[tuple[str, float, float]]:
    """(question, value of first, value of second) for every item of the slice that both have a value for."""
    others = {(item.question_id, item.turn): item.value for item in second.items if item.metric == metric}
    pairs = []
    for item in first.items:
        other = others.get((item.question_id, item.turn))
        if item.metric == metric and item.value is not None and other is not None and in_slice(item, slice_name):
            pairs.append((question_of(item.question_id), item.value, other))
    return pairs


def in_slice(item: ItemScore, slice_name: str) -> bool:
    """Whether an item belongs to `all`, `turn1`, `turn2` or a category."""
    if slice_name == "all":
        return True
    if slice_name in ("turn1", "turn2"):
        return item.turn == int(slice_name[-1])
    return item.category == slice_name


def mean_model(scored: Sequence[ScoredModel], group: str, benchmark: str) -> ScoredModel | None:
    """An imaginary model that scores on every item the mean of a group's models; None when the group has no model.

    Items that not all of them were scored on are left out.
    """
    entries = [entry for entry in scored if entry.group == group and entry.benchmark == benchmark]
    if not entries:
        return None
    values: dict[tuple[str, str, int], list[float]] = {}
    for entry in entries:
        for item in entry.items:
            if item.value is not None:
                values.setdefault((item.metric, item.question_id, item.turn), []).append(item.value)
    items = tuple(
        replace(item, value=float(np.mean(found)), reason=None)
        for item in entries[0].items
        if len(found := values.get((item.metric, item.question_id, item.turn), [])) == len(entries)
    )
    return replace(entries[0], model=f"mean of {group.lower()}", metrics=(), items=items)


def smallest_difference(scored: Sequence[ScoredModel], heading: Heading, to: str) -> float | None:
    """The smallest true difference to the model `to` that the benchmark's questions could show (80% power, median
    over the models compared), in the unit of scores.csv; None when nothing can be paired."""
    entries = [entry for entry in scored if entry.benchmark == heading.benchmark]
    reference = next((entry for entry in entries if entry.model == to), None)
    found = []
    for entry in entries:
        if reference is None or entry is reference:
            continue
        pairs = paired_items(entry, reference, heading.metric, heading.slice)
        groups = [pair[0] for pair in pairs]
        if len(set(groups)) > 1:
            error = clustered_standard_error([pair[1] - pair[2] for pair in pairs], groups)
            found.append(minimum_detectable_difference(error))
    scale = 100.0 if heading.metric in PERCENT_METRICS else 1.0
    return scale * float(np.median(found)) if found else None


def headings(table: pd.DataFrame) -> list[Heading]:
    """The columns that the leaderboard shows, in the table's order of benchmarks."""
    found = []
    for benchmark in table["benchmark"].unique():
        chosen = HEADINGS.get(benchmark)
        if chosen is None:
            rows = table[(table["benchmark"] == benchmark) & (table["slice"] == "all")]
            chosen = tuple((metric, "all", f"{benchmark} {metric}") for metric in rows["metric"].unique())
        found += [Heading(benchmark=benchmark, metric=m, slice=s, title=title) for m, s, title in chosen]
    return found


def leaderboard(table: pd.DataFrame) -> list[LeaderboardRow]:
    """The leaderboard's rows, models in the table's order within GROUPS."""
    columns = headings(table)
    models = table.drop_duplicates("model").set_index("model")["group"]
    order = sorted(models.index, key=lambda name: (_group_order(models[name]), list(models.index).index(name)))
    lookup = table.set_index(["model", "benchmark", "metric", "slice"])
    rows = []
    ranks = {heading: _ranks(table, heading) for heading in columns}
    for model in order:
        cells = []
        for heading in columns:
            place = (model, heading.benchmark, heading.metric, heading.slice)
            found = lookup.loc[place].to_dict() if place in lookup.index else {}
            cells.append(
                Cell(
                    heading=heading,
                    value=_number(found.get("value")),
                    low=_number(found.get("low")),
                    high=_number(found.get("high")),
                    n=int(found.get("n", 0)),
                    difference=_number(found.get("difference_to_pivot")),
                    difference_low=_number(found.get("difference_to_pivot_low")),
                    difference_high=_number(found.get("difference_to_pivot_high")),
                    rank=ranks[heading].get(model, 0),
                    reason=found.get("reason") or ("" if found else "not evaluated"),
                )
            )
        unscored = table[
            (table["model"] == model) & (table["slice"] == "all") & table["metric"].isin(["rating", "win_rate"])
        ]
        rows.append(
            LeaderboardRow(
                group=models[model], model=model, unscored=int(unscored["unscored"].sum()), cells=tuple(cells)
            )
        )
    return rows


def rounded(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A number as tables print it; an em dash for none."""
    if value is None:
        return "—"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    return text.replace("-", "−")


def _ranks(table: pd.DataFrame, heading: Heading) -> dict[str, int]:
    """1 for the best models of a column and 2 for the second, after rounding, so that equal print means equal rank."""
    if not heading.ranked:
        return {}
    rows = table[
        (table["benchmark"] == heading.benchmark)
        & (table["metric"] == heading.metric)
        & (table["slice"] == heading.slice)
    ].dropna(subset=["value"])
    values = {
        model: round(float(value), heading.decimals) for model, value in zip(rows["model"], rows["value"], strict=True)
    }
    best = sorted(set(values.values()), reverse=True)[:2]
    return {model: best.index(value) + 1 for model, value in values.items() if value in best}


def _group_order(group: str) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
