"""Plots of a score table as SVG: ratings by category as a radar, and estimates with their intervals."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd

from eval.scored import GROUPS

matplotlib.use("Agg")
from matplotlib.figure import Figure  # the backend is chosen first

# Okabe and Ito's palette, which readers with any colour vision can tell apart.
COLOURS = {"Pivot": "#000000", "Sources": "#999999", "Baselines": "#E69F00", "Targets": "#56B4E9", "Merged": "#009E73"}
_LINES = ("-", "--", ":", "-.")
_SETTINGS = {"svg.hashsalt": "fusechat-lab", "svg.fonttype": "none", "font.size": 9}


_MOST_LINES = 20


def radar(table: pd.DataFrame, models: Sequence[str]) -> Figure | None:
    """MT-Bench ratings by category, one line per model; None below three categories and above 20 models, where lines
    cannot be told apart."""
    rows = table[(table["benchmark"] == "mt_bench") & (table["metric"] == "rating")]
    categories = [name for name in rows["slice"].unique() if name not in ("all", "turn1", "turn2")]
    if len(categories) < 3 or len(models) > _MOST_LINES:
        return None
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(categories), endpoint=False)
    seen: dict[str, int] = {}
    for model in models:
        own = rows[rows["model"] == model].set_index("slice")
        if own.empty:
            continue
        values = own["value"].reindex(categories).to_numpy(dtype=float)
        group = str(own["group"].iloc[0])
        line = _LINES[seen.get(group, 0) % len(_LINES)]
        seen[group] = seen.get(group, 0) + 1
        closed = [*range(len(categories)), 0]
        axes.plot(angles[closed], values[closed], line, color=COLOURS.get(group, "#CC79A7"), label=model, linewidth=1.4)
    axes.set_xticks(angles, categories)
    axes.set_ylim(0, 10)
    axes.set_title("MT-Bench rating by category")
    axes.legend(loc="center left", bbox_to_anchor=(1.1, 0.5), frameon=False, fontsize=8)
    return figure


def intervals(
    table: pd.DataFrame, *, benchmark: str, metric: str, title: str, difference_to: str | None = None
) -> Figure | None:
    """Every model's estimate (or its paired difference to one model) with its interval; None when there are none."""
    rows = table[(table["benchmark"] == benchmark) & (table["metric"] == metric) & (table["slice"] == "all")]
    value, low, high = ("value", "low", "high")
    if difference_to is not None:
        value, low, high = (f"difference_to_{difference_to}{end}" for end in ("", "_low", "_high"))
    rows = rows.dropna(subset=[value])
    if rows.empty:
        return None
    rows = rows.assign(order=[GROUPS.index(group) if group in GROUPS else len(GROUPS) for group in rows["group"]])
    rows = rows.sort_values("order", kind="stable")
    figure = Figure(figsize=(5.6, 0.9 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(rows.iterrows()):
        colour = COLOURS.get(row["group"], "#CC79A7")
        if not pd.isna(row[low]):
            axes.plot([row[low], row[high]], [place, place], color=colour, linewidth=1.6)
        axes.plot([row[value]], [place], "o", color=colour, markersize=5)
    if difference_to is not None:
        axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), list(rows["model"]))
    axes.invert_yaxis()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an SVG element, the same bytes every time."""
    stream = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
