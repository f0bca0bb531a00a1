"""A published table beside ours, by role, so that the shapes can be compared: who beats whom, and by how much of the
pivot's value.  Published numbers stay in a table and a plot of their own; they never enter the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from eval.benchmarks import metric_of
from eval.report.plots import COLOURS, OTHER, hint, listed
from eval.report.sections import Entry, Section
from eval.report.tables import Heading, rounded

ROLES = ("Pivot", "Sources", "Ensembles", "SFT", "Multi", "Targets", "Merged")


@dataclass(frozen=True, kw_only=True)
class PublishedColumn:
    """What a column of the published table measures, as scores.csv would name it."""

    benchmark: str
    metric: str
    slice: str

    @property
    def heading(self) -> Heading:
        """As our own leaderboard heads it; a category by its name."""
        titles = dict(metric_of(self.benchmark, self.metric).shown)
        title = titles.get(self.slice, f"{next(iter(titles.values()), self.metric)} {self.slice}")
        return Heading(benchmark=self.benchmark, metric=self.metric, slice=self.slice, title=title)


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One model: its role in the recipe, and a value for each column, None where none was published."""

    role: str
    model: str
    values: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"the role of {self.model} is {self.role}: expected one of {', '.join(ROLES)}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published table, `conf/compare/NAME.yaml`, and where its numbers stand."""

    title: str
    source: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"{row.model} has {len(row.values)} values for {len(self.columns)} columns")


def comparison(published: Published, table: pd.DataFrame) -> pd.DataFrame:
    """Both tables in long form: origin (published or here), role, model, column, value, percent over its own pivot."""
    rows = []
    theirs = next((row for row in published.rows if row.role == "Pivot"), None)
    for place, column in enumerate(published.columns):
        base = theirs.values[place] if theirs else None
        for row in published.rows:
            value = row.values[place]
            percent = 100 * (value / base - 1) if value is not None and base and row.role != "Pivot" else None
            rows.append(("published", row.role, row.model, column.heading.title, value, percent))
        ours = table[
            (table["benchmark"] == column.benchmark)
            & (table["metric"] == column.metric)
            & (table["slice"] == column.slice)
        ]
        for _, own in ours.iterrows():
            rows.append(("here", _role(own), own["model"], column.heading.title, own["value"], own["percent_to_pivot"]))
    return pd.DataFrame(rows, columns=["origin", "role", "model", "column", "value", "percent"])


def compare_section(published: Published, table: pd.DataFrame, figures: Sequence[str]) -> Section:
    """The table by role, published rows before ours."""
    long = comparison(published, table)
    headings = [column.heading for column in published.columns]
    present = [heading for heading in headings if (long[long["origin"] == "here"]["column"] == heading.title).any()]
    columns = ("Role", "From", "Model", *(heading.title for heading in present))
    rows = []
    for role in ROLES:
        for origin in ("published", "here"):
            own = long[(long["role"] == role) & (long["origin"] == origin)]
            for model in own["model"].unique():
                cells = own[own["model"] == model].set_index("column")
                values = [_entry(cells, heading) for heading in present]
                rows.append([Entry(text=role), Entry(text=origin), Entry(text=model), *values])
    return Section(
        title=f"Beside {published.title}",
        notes=(
            f"Published: {published.source}.",
            "In parentheses the distance from the pivot of the same origin, in percent of that pivot's value. Models,"
            " questions and judges differ between the two: compare who beats whom and by how much, not the values."
            " What was published has no intervals here because it was published without.",
            *(() if len(present) == len(headings) else (_missing(headings, present),)),
        ),
        columns=columns,
        numeric=frozenset(columns[3:]),
        rows=rows,
        figures=tuple(figures),
    )


def shapes(published: Published, table: pd.DataFrame) -> Figure | None:
    """Every row's percent over its own pivot, one line per role and origin: hollow is published, filled is ours."""
    long = comparison(published, table).dropna(subset=["percent"])
    ours = long[long["origin"] == "here"]
    column = next(
        (c.heading.title for c in reversed(published.columns) if (ours["column"] == c.heading.title).any()), ""
    )
    long = long[(long["column"] == column) & (long["role"] != "Pivot")]
    roles = [role for role in ROLES if (long["role"] == role).any()]
    if not (long["origin"] == "here").any():
        return None
    present = set(zip(long["role"], long["origin"], strict=True))
    lines = [(role, origin) for role in roles for origin in ("published", "here") if (role, origin) in present]
    figure, axes = listed(f"{column}: percent over the pivot", [f"{role}, {origin}" for role, origin in lines])
    for place, (role, origin) in enumerate(lines):
        own = long[(long["role"] == role) & (long["origin"] == origin)]
        colour = COLOURS.get(_GROUPS.get(role, role), OTHER)
        face = "white" if origin == "published" else colour
        for model, value in zip(own["model"], own["percent"], strict=True):
            said = hint(f"{model}, {origin}: {rounded(value, 2, sign=True)}%")
            axes.plot([value], [place], "o", color=colour, markerfacecolor=face, markersize=6, gid=said)
    axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    return figure


_GROUPS: Mapping[str, str] = {"SFT": "Baselines", "Multi": "Baselines"}


def _role(row: pd.Series) -> str:
    """A row of ours by its role: the baselines are SFT and Multi, all others as their group."""
    return {"sft": "SFT", "multi": "Multi"}.get(str(row["role"]), str(row["group"]))


def _entry(cells: pd.DataFrame, heading: Heading) -> Entry:
    if heading.title not in cells.index or pd.isna(cells.loc[heading.title, "value"]):
        return Entry(text="—")
    value, percent = float(cells.loc[heading.title, "value"]), cells.loc[heading.title, "percent"]
    said = "" if pd.isna(percent) else f" ({rounded(float(percent), 2, sign=True)}%)"
    return Entry(text=rounded(value, 2) + said, number=value)


def _missing(headings: Sequence[Heading], present: Sequence[Heading]) -> str:
    lacking = [heading.title for heading in headings if heading not in present]
    return f"Not measured here, and left out: {', '.join(lacking)}."
