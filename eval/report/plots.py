"""Plots of a score table as SVG: ratings by category, estimates with their intervals, values against length.

Margins are computed from the widths of the labels, because matplotlib's own layout draws every figure twice.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib
import numpy as np
import pandas as pd

from eval.report.tables import rounded
from eval.scored import GROUPS
from eval.scores.metric import Metric
from fusion.runtime.visible import visible

matplotlib.use("Agg")
from matplotlib.axes import Axes  # the backend is chosen first
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

# Okabe and Ito's palette, which readers with any colour vision can tell apart.
COLOURS = {"Pivot": "#000000", "Sources": "#999999", "Baselines": "#E69F00", "Targets": "#56B4E9", "Merged": "#009E73"}
OTHER = "#CC79A7"
MOST_ROWS = 60  # of a plot that is taken in at a glance
_LINES = ("-", "--", ":", "-.")
_MOST_LINES = 20
_LONGEST_NAME = 80
_HINT = "hint: "
# A model's name may hold dollars, which are no formula.
_SETTINGS = {"svg.hashsalt": "fusechat-lab", "svg.fonttype": "none", "font.size": 9, "text.parse_math": False}
matplotlib.rcParams.update(_SETTINGS)


def radar(table: pd.DataFrame, benchmark: str, rating: Metric, models: Sequence[str]) -> Figure | None:
    """Ratings by category, one line per model; None below three categories and above 20 models, where lines cannot be
    distinguished.  The axis starts a point below the lowest rating, which its title says.
    """
    rows = table[(table["benchmark"] == benchmark) & (table["metric"] == rating.name)]
    categories = [name for name in rows["slice"].unique() if name not in ("all", "turn1", "turn2")]
    rows = rows[rows["model"].isin(models) & rows["slice"].isin(categories)].dropna(subset=["value"])
    if len(categories) < 3 or len(models) > _MOST_LINES or rows.empty:
        return None
    start = max(0, math.floor(rows["value"].min()) - 1)
    size, side = 3.1, 0.3 + widest(categories)
    width, height = size + 2 * side + 0.5 + widest(models), 4.2
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((side / width, 0.45 / height, size / width, size / height), projection="polar")
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
        said = ", ".join(f"{name} {rounded(x, rating.decimals)}" for name, x in zip(categories, values, strict=True))
        axes.plot(
            angles[closed], values[closed], line, color=COLOURS.get(group, OTHER), label=model, linewidth=1.4,
            gid=hint(f"{model}: {said}"),
        )  # fmt: skip
    axes.set_xticks(angles, categories)
    axes.set_ylim(start, 10)
    axes.set_yticks(range(start + 1, 11))
    axes.set_rlabel_position(180 / len(categories))  # type: ignore[attr-defined]
    said = f" (the centre is {start})" if start else ""
    axes.set_title(f"{rating.title} by category{said}", pad=16)
    around = ", ".join(categories)
    figure.set_label(f"{rating.title} by category: {sum(seen.values())} models, each a line around {around}")
    axes.legend(
        loc="center left", bbox_to_anchor=((2 * side + size) / width, 0.5), frameon=False, fontsize=8,
        bbox_transform=figure.transFigure,
    )  # fmt: skip
    return figure


def distinguishable(table: pd.DataFrame, benchmark: str, metric: Metric, models: Sequence[str]) -> list[str]:
    """The models of a radar: all of a few; of many the pivot, the baselines, and the best target and two best merges,
    one setting of each row."""
    if len(models) <= _MOST_LINES // 2:
        return list(models)
    rows = table[(table["benchmark"] == benchmark) & (table["metric"] == metric.name) & (table["slice"] == "all")]
    rows = rows[rows["model"].isin(models)]
    rows = rows.sort_values("value", ascending=False)
    most = {"Pivot": 1, "Baselines": 2, "Targets": 1, "Merged": 2}
    best = rows.drop_duplicates("row").groupby("group").cumcount()
    kept = {model for model, group, n in zip(rows["model"], rows["group"], best.reindex(rows.index), strict=True)
            if n < most.get(group, 0)}  # fmt: skip
    return [model for model in models if model in kept]


def intervals(
    table: pd.DataFrame, benchmark: str, metric: Metric, *, difference_to: str | None = None
) -> Figure | None:
    """Every model's estimate (or its paired difference to one model) with its interval; None when there are none."""
    rows = table[(table["benchmark"] == benchmark) & (table["metric"] == metric.name) & (table["slice"] == "all")]
    title = metric.title + (", %" if metric.unit == "percent" else "")
    value, low, high = ("value", "low", "high")
    if difference_to is not None:
        value, low, high = (f"difference_to_{difference_to}{end}" for end in ("", "_low", "_high"))
        title += f": difference to the {difference_to}"
    rows = rows.dropna(subset=[value])
    if rows.empty:
        return None
    title, rows = best_rows(title, rows, value)
    rows = rows.assign(order=[GROUPS.index(group) if group in GROUPS else len(GROUPS) for group in rows["group"]])
    rows = rows.sort_values("order", kind="stable")
    figure, axes = listed(title, list(rows["model"]))
    colours = [COLOURS.get(group, OTHER) for group in rows["group"]]
    signed = difference_to is not None
    for place, row in enumerate(rows.to_dict("records")):
        ends = [rounded(row[end], metric.decimals, sign=signed) for end in (low, high) if not pd.isna(row[end])]
        said = f"{row['model']}: {rounded(row[value], metric.decimals, sign=signed)}"
        told = hint(f"{said} ({' to '.join(ends)})" if ends else said)
        axes.plot([row[low], row[high]], [place, place], color=colours[place], linewidth=1.6, gid=told)
        axes.plot([row[value]], [place], "o", color=colours[place], markersize=5, zorder=3, gid=told)
    figure.set_label(spanned(title, rows, value, metric.decimals, sign=signed))
    if difference_to is not None:
        axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    return figure


def lengths(table: pd.DataFrame, benchmark: str, metric: Metric, length: Metric) -> Figure | None:
    """A metric against the answers' average length; None where no two lengths differ by 5%.

    A line leads from each value to the length-controlled one, which is what is left when length is taken out.
    """
    rows = table[(table["benchmark"] == benchmark) & (table["slice"] == "all")].drop_duplicates(["model", "metric"])
    wide = rows.pivot(index="model", columns="metric", values="value")
    if not {metric.name, length.name} <= set(wide.columns):
        return None
    wide = wide.dropna(subset=[metric.name, length.name])
    across, up = wide[length.name], wide[metric.name]
    if len(wide) < 3 or across.max() < 1.05 * across.min():
        return None
    groups = rows.drop_duplicates("model").set_index("model")["group"]
    figure, axes = framed(f"{metric.title} against length", width=5.0, height=3.6, left=0.55, bottom=0.5)
    wide.index.name = "model"
    colours = [COLOURS.get(groups[model], OTHER) for model in wide.index]
    if metric.length_controlled in wide:
        controlled = wide[metric.length_controlled]
        axes.vlines(across, up, controlled, colors=colours, linewidth=1, alpha=0.6)
        axes.scatter(across, controlled, c=colours, marker="_", s=49)
    for model, colour in zip(wide.index, colours, strict=True):
        said = f"{model}: {rounded(up[model], metric.decimals)} at {across[model]:,.0f} characters"
        axes.plot([across[model]], [up[model]], "o", color=colour, markersize=5, zorder=3, gid=hint(said))
    figure.set_label(spanned(f"{metric.title} against length", wide.reset_index(), metric.name, metric.decimals))
    axes.set_xlabel("average length of the answers, characters")
    axes.set_ylabel(f"{metric.name.replace('_', ' ')}, %; bar: length-controlled")
    _keys(axes, [group for group in GROUPS if group in set(groups[wide.index])])
    order = sorted(wide.index, key=lambda model: (groups[model] != "Pivot", -up[model]))
    places = {model: (across[model], up[model]) for model in order}
    _name(figure, axes, places)
    return figure


def label(name: str) -> str:
    """A name as plots write it: of a long one its two ends."""
    shown = visible(name)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME // 2]}…{shown[-_LONGEST_NAME // 2 :]}"


def hint(text: str) -> str:
    """What a reader is told who points at a line or a point: the `gid` of its artist, which `svg` makes a title."""
    return _HINT + visible(text)


def spanned(title: str, rows: pd.DataFrame, value: str, decimals: int, *, sign: bool = False) -> str:
    """A plot in words, for who does not see it: its title, and the models between which its values lie."""
    low, high = (rows.loc[rows[value].agg(end)] for end in ("idxmin", "idxmax"))
    ends = (f"{row['model']} {rounded(row[value], decimals, sign=sign)}" for row in (low, high))
    return f"{title}: {len(rows)} models, from {' to '.join(ends)}"


def best_rows(title: str, rows: pd.DataFrame, value: str) -> tuple[str, pd.DataFrame]:
    """The rows of a plot, cut to the best 60 with those that others are compared with; its title says so."""
    if len(rows) <= MOST_ROWS:
        return title, rows
    compared = rows["group"].isin(("Pivot", "Baselines")) & (rows["model"] == rows["row"])
    best = rows[~compared].nlargest(MOST_ROWS - int(compared.sum()), value).index
    return f"{title}: best {MOST_ROWS} of {len(rows)}", rows[compared | rows.index.isin(best)]


def listed(title: str, names: Sequence[str], *, width: float = 4.2) -> tuple[Figure, Axes]:
    """An empty plot with one line per name, top down."""
    names = [label(name) for name in names]
    many = len(names) > 24
    font = FontProperties(size=8 if many else 9)
    line = 0.18 if many else 0.26
    figure, axes = framed(
        title, width=width, height=0.2 + line * len(names), left=0.15 + widest(names, font), bottom=0.3
    )
    axes.set_yticks(range(len(names)), list(names), fontproperties=font)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return figure, axes


def framed(
    title: str, *, width: float, height: float, left: float, bottom: float, right: float = 0.15
) -> tuple[Figure, Axes]:
    """An empty plot of `width` x `height` inches, with the margins that its labels need around it."""
    title = visible(title, lines=True)
    needed = FontProperties(size=11)
    whole = max(left + width + right, 0.2 + widest([title], needed))
    tall = height + bottom + 0.4
    figure = Figure(figsize=(whole, tall), label=title)
    axes = figure.add_axes((left / whole, bottom / tall, width / whole, height / tall))
    figure.text(0.5, 1 - 0.22 / tall, title, ha="center", va="center", fontproperties=needed)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Figure) -> str:
    """The figure as an SVG element, the same bytes every time; its label says what it shows, its hints are titles."""
    stream = io.StringIO()
    with _letters_of_the_reader():
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    said = quoteattr(str(figure.get_label()))
    text = text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label={said}', 1)
    return visible(re.sub(f'<g id="{_HINT}([^"]*)">', r'<g class="hint"><title>\1</title>', text), lines=True)


def widest(texts: Sequence[str], font: FontProperties | None = None) -> float:
    """How many inches the widest of some labels takes, in small type unless another font is named."""
    font = font or FontProperties(size=9)
    with _letters_of_the_reader():
        return max(
            (text_to_path.get_text_width_height_descent(t, font, ismath=False)[0] / 72 for t in texts), default=0
        )


@contextlib.contextmanager
def _letters_of_the_reader() -> Iterator[None]:
    """Without complaints about letters that matplotlib's own font lacks: text is drawn by the reader's fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _name(figure: Figure, axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Each point's name beside it, first come first served: a name that would cover another or a point is left out."""
    axes.autoscale_view()
    points = [axes.transData.transform(place) * 72 / figure.dpi for place in places.values()]
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    edge = axes.bbox.x1 * 72 / figure.dpi + 8
    font = FontProperties(size=8)
    for name, (x, y) in zip(places, points, strict=True):
        wide = 72 * widest([name], font)
        for left, up in ((6, 2), (6, -10), (-6 - wide, 2), (-6 - wide, -10)):
            box = (x + left, y + up, x + left + wide, y + up + 9)
            if box[2] < edge and not any(
                a < box[2] and box[0] < c and b < box[3] and box[1] < d for a, b, c, d in taken
            ):
                axes.annotate(name, places[name], xytext=(left, up), textcoords="offset points", fontproperties=font)
                taken.append(box)
                break


def _keys(axes: Axes, groups: Sequence[str]) -> None:
    marks: list[Any] = [
        matplotlib.lines.Line2D([], [], marker="o", linestyle="", color=COLOURS.get(g, OTHER), label=g) for g in groups
    ]
    axes.legend(handles=marks, frameon=False, fontsize=8, loc="best")
