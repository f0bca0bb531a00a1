"""Scores to tables: the long scores.csv, and the leaderboard in Markdown, CSV and LaTeX.

Rounding is decided here and nowhere else: ratings two decimals, percentages one, shares three, lengths none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eval.benchmarks import judged, metric_of
from eval.report.comparisons import FAMILY_LEVEL, ReferenceOf, compared, the_one
from eval.scored import GROUPS, JudgeCost, ScoredModel
from eval.scores.intervals import Uncertainty

SCORE_COLUMNS = ["model", "group", "benchmark", "metric", "slice", "value", "low", "high", "n", "unscored"]
# Marks a difference that is still a finding after the correction.
DAGGER = "†"


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
        return metric_of(self.benchmark, self.metric).decimals

    @property
    def ranked(self) -> bool:
        """Whether larger is better, so that a best can be marked."""
        return metric_of(self.benchmark, self.metric).sense == 1


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """A model under one heading, as in `scores_table`, not yet rounded."""

    heading: Heading
    value: float | None
    low: float | None
    high: float | None
    n: int
    difference: float | None
    """To the pivot."""
    difference_low: float | None
    difference_high: float | None
    percent: float | None
    """The estimate's distance from the pivot's, in percent of the pivot's."""
    p_holm: float | None
    """The difference's p-value, corrected over the column's models."""
    rank: int
    """1 for the best of the column, 2 for the second, else 0."""
    reason: str
    """Why there is no value."""

    @property
    def differs(self) -> bool:
        """Whether the difference to the pivot is still a finding after Holm's correction."""
        return self.p_holm is not None and self.p_holm <= FAMILY_LEVEL


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One model of the leaderboard, a cell under each heading."""

    group: str
    model: str
    role: str
    unscored: int
    """Missing ratings and preferences."""
    cells: tuple[TableCell, ...]
    judge_tokens: int | None = None
    """What judging it took; None where no judge counted."""
    judge_money: float | None = None
    """The same; None where no judge has a price."""


def scores_table(
    scored: Sequence[ScoredModel],
    *,
    uncertainty: Uncertainty,
    against: Sequence[str] = ("pivot", "sft"),
    reference_of: ReferenceOf | None = None,
) -> pd.DataFrame:
    """One row per model, benchmark, metric and slice: SCORE_COLUMNS, `reason`, `variant`, `row`, `role`, `oracle`, and
    for each role in `against` the difference to its model, paired by question (`difference_to_<role>`, `_low`,
    `_high`), its p-value (`p_to_<role>`), that value corrected by Holm over all models of the metric and slice
    (`p_holm_to_<role>`), and the distance of the two values in percent of the reference's (`percent_to_<role>`).

    A difference is empty where the metric has no items (length-controlled rates are fits, not means) or the other
    model was not scored.
    """
    reference_of = reference_of or the_one(scored)
    by_key = {(entry.model, entry.benchmark): entry for entry in scored}
    families: dict[tuple[str, str, str], list[tuple[ScoredModel, dict[str, Any]]]] = {}
    rows = []
    for entry in scored:
        for metric in entry.metrics:
            row: dict[str, Any] = {
                "model": entry.model,
                "group": entry.group,
                **{name: getattr(metric, name) for name in SCORE_COLUMNS[2:]},
                "reason": metric.reason or "",
                "variant": metric.variant,
                "row": entry.row,
                "role": entry.role,
                "oracle": entry.oracle,
            }
            rows.append(row)
            families.setdefault((entry.benchmark, metric.metric, metric.slice), []).append((entry, row))
    for (benchmark, metric_name, part), family in families.items():
        values = {entry.model: row["value"] for entry, row in family}
        for other in against:
            names = [reference_of(entry.model, other) or "" for entry, _ in family]
            known = [
                (entry, by_key[name, benchmark], row)
                for (entry, row), name in zip(family, names, strict=True)
                if (name, benchmark) in by_key
            ]
            found = compared([(first, second) for first, second, _ in known], metric_name, part, uncertainty)
            for (_, second, row), comparison in zip(known, found, strict=True):
                row[f"percent_to_{other}"] = _percent(row["value"], values.get(second.model))
                if comparison is not None:
                    ends = comparison.difference
                    row |= {
                        f"difference_to_{other}": ends.value,
                        f"difference_to_{other}_low": ends.low,
                        f"difference_to_{other}_high": ends.high,
                        f"p_to_{other}": comparison.p,
                        f"p_holm_to_{other}": comparison.p_holm,
                    }
    columns = ("difference_to_{}", "difference_to_{}_low", "difference_to_{}_high", "p_to_{}", "p_holm_to_{}")
    wanted = [name.format(other) for other in against for name in (*columns, "percent_to_{}")]
    return pd.DataFrame(rows, columns=[*SCORE_COLUMNS, "reason", "variant", "row", "role", "oracle", *wanted])


def headings(table: pd.DataFrame) -> list[Heading]:
    """The columns that the leaderboard shows, in the table's order of benchmarks."""
    found = []
    for benchmark in table["benchmark"].unique():
        known = judged(benchmark)
        if known is not None:
            chosen = [(metric.name, part, title) for metric in known.metrics for part, title in metric.shown]
        else:
            rows = table[table["benchmark"] == benchmark].drop_duplicates(["slice", "metric"])
            shown = rows[rows["slice"] == "all"] if (rows["slice"] == "all").any() else rows  # lm-eval: a slice a task
            chosen = [
                (metric, name, f"{benchmark if name == 'all' else name} {metric}")
                for name, metric in zip(shown["slice"], shown["metric"], strict=True)
            ]
        found += [Heading(benchmark=benchmark, metric=m, slice=s, title=title) for m, s, title in chosen]
    return found


def leaderboard(table: pd.DataFrame, costs: Sequence[JudgeCost] = ()) -> list[LeaderboardRow]:
    """The leaderboard's rows, models in the table's order within GROUPS, with what judging them took."""
    columns = headings(table)
    first = table.drop_duplicates("model").set_index("model")
    models, roles = first["group"], first["role"]
    order = sorted(models.index, key=lambda name: (_group_order(models[name]), list(models.index).index(name)))
    lookup = {(row["model"], row["benchmark"], row["metric"], row["slice"]): row for row in table.to_dict("records")}
    rows = []
    mains = {name: known.primary.name for name in table["benchmark"].unique() if (known := judged(name)) is not None}
    primary = table[(table["slice"] == "all") & (table["metric"] == table["benchmark"].map(mains))]
    ranks = {heading: _ranks(table, heading) for heading in columns}
    for model in order:
        cells = []
        for heading in columns:
            place = (model, heading.benchmark, heading.metric, heading.slice)
            found = lookup.get(place, {})
            cells.append(
                TableCell(
                    heading=heading,
                    value=_number(found.get("value")),
                    low=_number(found.get("low")),
                    high=_number(found.get("high")),
                    n=int(found.get("n", 0)),
                    difference=_number(found.get("difference_to_pivot")),
                    difference_low=_number(found.get("difference_to_pivot_low")),
                    difference_high=_number(found.get("difference_to_pivot_high")),
                    percent=_number(found.get("percent_to_pivot")),
                    p_holm=_number(found.get("p_holm_to_pivot")),
                    rank=ranks[heading].get(model, 0),
                    reason=found.get("reason") or ("" if found else "not evaluated"),
                )
            )
        unscored = primary[primary["model"] == model]
        taken = [cost for cost in costs if cost.model == model]
        tokens = sum(cost.prompt_tokens + cost.completion_tokens for cost in taken)
        money = [cost.money for cost in taken if cost.money is not None]
        rows.append(
            LeaderboardRow(
                group=models[model],
                model=model,
                role=roles[model],
                unscored=int(unscored["unscored"].sum()),
                cells=tuple(cells),
                judge_tokens=tokens or None,
                judge_money=sum(money) if money else None,
            )
        )
    return rows


def rounded(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A number as tables print it; an em dash for none."""
    if value is None:
        return "—"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    return text.replace("-", "−")


def percents(cell: TableCell) -> str:
    """The distance to the pivot in percent, as the papers print it; nothing where it is none or means nothing."""
    if cell.percent is None or not cell.heading.ranked:
        return ""
    return f"{rounded(cell.percent, 2, sign=True)}%"


def costs_known(rows: Sequence[LeaderboardRow]) -> bool:
    """Whether a column for what judging took would say something."""
    return any(row.judge_tokens is not None for row in rows)


def _percent(value: float | None, reference: float | None) -> float | None:
    return 100 * (value / reference - 1) if value is not None and reference else None


def _ranks(table: pd.DataFrame, heading: Heading) -> dict[str, int]:
    """1 for the best models of a column and 2 for the second, after rounding, so that equal print means equal rank.

    Oracles have no rank.
    """
    if not heading.ranked:
        return {}
    rows = table[
        (table["benchmark"] == heading.benchmark)
        & (table["metric"] == heading.metric)
        & (table["slice"] == heading.slice)
        & (table["oracle"] == "")
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
