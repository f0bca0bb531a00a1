"""Plots that need several cells: how two axes act together, how far seeds differ, what each merge weighed.

A plot is None where it would say nothing: one value on an axis, one seed, coefficients that are the same everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.studies.measures import measures_of
from ablations.studies.pooling import PooledRow, pooled_mean
from eval.report.plots import COLOURS, MOST_ROWS, OTHER, framed, hint, listed, widest
from eval.report.tables import Heading, rounded
from eval.scored import GROUPS, ScoredModel
from eval.scores.intervals import Interval, Uncertainty

# Of text within coloured squares: beside white and black, which in the page are those of the reader's mode.
_LIGHT, _DARK = "#fefefe", "#010101"
RULE = "merge rule"  # the axis that the merge rules of one cell span


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model under one setting of the swept axes."""

    axes: Mapping[str, str]
    scored: ScoredModel


def heat_maps(rows: Sequence[PooledRow], models: Sequence[str], uncertainty: Uncertainty) -> dict[str, Figure]:
    """For each benchmark and each pair of axes that have several values a map of means over everything else, by name.

    `models`: whose scores; none: those of all merges, where their rules are one more axis.
    """
    found = {}
    for measure in measures_of(row.scored for row in rows):
        own = [row for row in rows if row.scored.benchmark == measure.benchmark]
        groups = {model: [row for row in own if row.model == model] for model in models}
        groups = groups or {"merged": [row for row in own if row.scored.group == "Merged"]}
        for model, chosen in groups.items():
            points = _points(chosen, with_rule=not models)
            axes = [axis for axis in _names(points) if len({point.axes.get(axis) for point in points}) > 1]
            for first, second in itertools.combinations(axes, 2):
                figure = _heat_map(points, first, second, f"{model}: {measure.title}", measure, uncertainty)
                if figure is not None:
                    found[f"{_file(measure)}_{model}_{first}_by_{second}".replace("/", "_").replace(" ", "_")] = figure
    return found


def seed_spread(rows: Sequence[PooledRow]) -> dict[str, Figure]:
    """For each benchmark every model that seeds change: the pooled estimate, its interval, and each seed's value."""
    found = {}
    for measure in measures_of(row.scored for row in rows):
        own = [row for row in rows if row.scored.benchmark == measure.benchmark and row.draws > 1]
        own = sorted(own, key=lambda row: -(_value(row.scored, measure) or 0))[:MOST_ROWS]
        own = sorted(own, key=lambda row: (GROUPS.index(row.scored.group), rows.index(row)))
        if not own:
            continue
        figure, axes = listed(f"{measure.title}: every seed beside the pooled interval", [r.label for r in own])
        for place, row in enumerate(own):
            colour = COLOURS.get(row.scored.group, OTHER)
            whole = next(m for m in row.scored.metrics if (m.metric, m.slice) == (measure.metric, measure.slice))
            if whole.low is not None and whole.high is not None:
                axes.plot([whole.low, whole.high], [place, place], color=colour, linewidth=5, alpha=0.35)
            for seed, (_, entry) in row.runs.items():
                value = _value(entry, measure)
                if value is not None:
                    said = hint(f"{row.label}, seed {seed}: {rounded(value, measure.decimals)}")
                    axes.plot([value], [place], "o", color=colour, markersize=4, markerfacecolor="white", gid=said)
            if whole.value is not None:
                said = hint(f"{row.label}, pooled: {rounded(whole.value, measure.decimals)}")
                axes.plot([whole.value], [place], "|", color=colour, markersize=12, markeredgewidth=2, gid=said)
        found[_file(measure)] = figure
    return found


def coefficient_map(label: str, table: pd.DataFrame) -> Figure | str:
    """The targets' coefficients in a merge, by layer, from its coefficients.parquet; in words where they are the same
    everywhere or vary within every parameter."""
    weights = layer_weights(table)
    grid = weights.to_numpy(dtype=float)
    known = grid[~np.isnan(grid)]
    if not len(known):
        return "no coefficient holds for a whole parameter."
    if np.ptp(known) < 1e-9:
        return f"every coefficient is {known[0]:.3g}."
    left = 0.2 + widest(list(weights.index))
    width = len(weights.columns) * max(0.7, widest(list(weights.columns)) + 0.15)
    figure, axes = framed(f"{label}: coefficients", width=width, height=0.24 * len(weights), left=left, bottom=0.35)
    texts = [["" if np.isnan(value) else f"{value:.2f}" for value in line] for line in grid]
    _fill(axes, grid, texts, low=min(0.0, float(known.min())), high=max(1.0, float(known.max())))
    axes.set_xticks(np.arange(len(weights.columns)) + 0.5, list(weights.columns))
    axes.set_yticks(np.arange(len(weights)) + 0.5, list(weights.index))
    return figure


def layer_weights(table: pd.DataFrame) -> pd.DataFrame:
    """The coefficients by layer and target: means over a layer's parameters, weighted by their elements; parameters
    outside the layers stand under their names, in the checkpoint's order."""
    rows = table[table["target"] != "(merged)"]
    place = [
        name.removesuffix(".weight") if pd.isna(layer) else f"layer {int(layer)}"
        for name, layer in zip(rows["parameter"], rows["layer"], strict=True)
    ]
    rows = rows.assign(place=place, known=rows["elements"].where(rows["weight"].notna()))
    rows = rows.assign(sum=rows["weight"] * rows["known"])
    grouped = rows.groupby(["place", "target"])[["sum", "known"]].sum(min_count=1)
    wide = (grouped["sum"] / grouped["known"]).unstack("target")
    order = sorted(dict.fromkeys(place), key=lambda p: (p.startswith("layer "), int(p[6:]) if p[:6] == "layer " else 0))
    return wide.reindex(index=order, columns=list(dict.fromkeys(rows["target"])))


def _points(rows: Sequence[PooledRow], *, with_rule: bool) -> list[Point]:
    found = []
    rules = {row.model for row in rows}
    # Where the rule is swept, every rule has settings of its own, and the axis is there already.
    span = with_rule and any(len({r.model for r in rows if r.axes == row.axes}) > 1 for row in rows) and len(rules) > 1
    for row in rows:
        axes = {**row.axes, RULE: row.model} if span else dict(row.axes)
        found.append(Point(axes=axes, scored=row.scored))
    return found


def _heat_map(
    points: Sequence[Point], first: str, second: str, title: str, measure: Heading, uncertainty: Uncertainty
) -> Figure | None:
    down, across = (list(dict.fromkeys(point.axes.get(axis, "") for point in points)) for axis in (first, second))
    found: dict[tuple[int, int], Interval] = {}
    counts: dict[tuple[int, int], int] = {}
    for (y, left), (x, top) in itertools.product(enumerate(down), enumerate(across)):
        here = [p for p in points if p.axes.get(first, "") == left and p.axes.get(second, "") == top]
        mean = pooled_mean([p.scored for p in here], measure.metric, measure.slice, uncertainty) if here else None
        if mean is not None:
            found[y, x] = mean
            counts[y, x] = len(here)
    if len(found) < 4:
        return None
    grid = np.full((len(down), len(across)), np.nan)
    for place, interval in found.items():
        grid[place] = interval.value
    if np.nanmax(np.ptp(grid, axis=0)) == 0 or np.nanmax(np.ptp(grid, axis=1)) == 0:  # one axis changes nothing
        return None
    others = [axis for axis in _names(points) if axis not in (first, second)]
    said = f"mean over {', '.join(others)}" if others and max(counts.values()) > 1 else ""
    margin = 0.5 + widest(down)
    width = len(across) * max(1.0, widest(across) + 0.2)
    figure, axes = framed(title, width=width, height=0.5 * len(down), left=margin, bottom=0.75 if said else 0.55)
    texts = [[_square(found.get((y, x)), grid) for x in range(len(across))] for y in range(len(down))]
    _fill(axes, grid, texts, low=float(np.nanmin(grid)), high=float(np.nanmax(grid)))
    axes.set_xticks(np.arange(len(across)) + 0.5, across)
    axes.set_yticks(np.arange(len(down)) + 0.5, down)
    axes.set_ylabel(first)
    axes.set_xlabel(f"{second}\n{said}" if said else second)
    return figure


def _square(found: Interval | None, grid: np.ndarray) -> str:
    if found is None:
        return "—"
    decimals = 2 if np.nanmax(grid) <= 10 else 1
    bounds = "" if found.low is None else f"\n{rounded(found.low, decimals)} to {rounded(found.high, decimals)}"
    return rounded(found.value, decimals) + bounds


def _fill(axes: Axes, grid: np.ndarray, texts: Sequence[Sequence[str]], *, low: float, high: float) -> None:
    """Squares coloured from `low` to `high`, each with its text."""
    colours = matplotlib.colormaps["viridis"]
    axes.pcolormesh(np.ma.masked_invalid(grid), cmap=colours, vmin=low, vmax=high, edgecolors="white", linewidth=1)
    for y, line in enumerate(texts):
        for x, text in enumerate(line):
            dark = not np.isnan(grid[y, x]) and (grid[y, x] - low) / ((high - low) or 1) < 0.6
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color=_LIGHT if dark else _DARK)
    axes.set_ylim(len(grid), 0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(axis for point in points for axis in point.axes))


def _value(scored: ScoredModel, measure: Heading) -> float | None:
    return next((m.value for m in scored.metrics if (m.metric, m.slice) == (measure.metric, measure.slice)), None)


def _file(measure: Heading) -> str:
    """A measure in the name of a file."""
    task = "" if measure.slice == "all" else f"_{measure.slice}_{measure.metric}"
    return (measure.benchmark + task).replace(",", "_").replace("/", "_")
