"""Write a report: scores.csv, the leaderboard in four forms, the items behind it, and the plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eval.benchmarks import judged, metric_of
from eval.markdown import inert
from eval.report import leaderboard_files, plots
from eval.report.answers_page import answers_page
from eval.report.comparisons import (
    FAMILY_LEVEL,
    ReferenceOf,
    difference,
    mean_model,
    paired_samples,
    smallest_difference,
    too_few,
)
from eval.report.covers import Covers, over_questions
from eval.report.endings import ending_notes
from eval.report.headline import headline
from eval.report.judging import write_judging
from eval.report.page import page
from eval.report.sections import Section
from eval.report.tables import DAGGER, Heading, headings, leaderboard, rounded, scores_table
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty
from eval.spreadsheet import table_csv

_NAMED = 4  # models in a sentence; of more the table shows which they are


def write_report(
    scored: Sequence[ScoredModel],
    out: Path,
    *,
    title: str,
    uncertainty: Uncertainty,
    links: Mapping[str, str] | None = None,
    reference_of: ReferenceOf | None = None,
    sections: Callable[[pd.DataFrame], Sequence[Section]] = lambda table: (),
    remarks: Sequence[str] = (),
    found: Sequence[str] = (),
    made: Mapping[str, str] | None = None,
    covers: Covers | None = None,
) -> pd.DataFrame:
    """Write scores.csv, items.csv, leaderboard.{md,csv,tex,html}, answers.html and plots/*.svg into `out`, cost.csv and
    agreement.{csv,md} where judges gave cause; return the table.  `answers.html` needs models that carry their answers.
    `links` (label to address) join those of the page, `sections` (made from the table) come below its leaderboard, and
    `remarks` stand last below every form of it.  The page alone has sentences on what was `found`, those of the
    leaderboard after them, and what it was `made` by, which differs from run to run.  `covers` says what intervals and
    tests are over; None: the questions of one run.
    """
    out.mkdir(parents=True, exist_ok=True)
    covers = covers or over_questions(uncertainty)
    table = scores_table(scored, uncertainty=uncertainty, reference_of=reference_of)
    (out / "scores.csv").write_text(table_csv(table), encoding="utf-8")
    (out / "items.csv").write_text(table_csv(items_table(scored)), encoding="utf-8")
    rows = leaderboard(table, [cost for entry in scored if entry.judged for cost in entry.judged.costs])
    remarks = [
        *notes(scored, table, uncertainty, reference_of, covers),
        *ending_notes(scored),
        *write_judging(scored, out, uncertainty),
        *remarks,
    ]
    below = [_brackets(uncertainty, covers), *remarks]
    shown = f"# {inert(title)}\n\n" + leaderboard_files.markdown(rows, below)
    (out / "leaderboard.md").write_text(shown, encoding="utf-8")
    (out / "leaderboard.csv").write_text(leaderboard_files.wide_csv(rows), encoding="utf-8")
    (out / "leaderboard.tex").write_text(leaderboard_files.latex(rows, below), encoding="utf-8")
    drawn = _plots(table)
    folder = out / "plots"
    folder.mkdir(exist_ok=True)
    for left in folder.glob("*.svg"):  # by an earlier report, of other models
        left.unlink()
    for name, drawing in drawn.items():
        (folder / f"{name}.svg").write_text(drawing, encoding="utf-8")
    beside = {"scores.csv": "scores.csv", "items.csv": "items.csv", **(links or {})}
    answers = answers_page(f"{title}: answers", scored, {"leaderboard": "leaderboard.html", **beside})
    if answers is None:
        (out / "answers.html").unlink(missing_ok=True)  # of an earlier report, whose models these are not
    else:
        (out / "answers.html").write_text(answers, encoding="utf-8")
        beside = {"answers and verdicts": "answers.html", **beside}
    whole = page(
        title,
        rows,
        remarks,
        list(drawn.values()),
        beside,
        sections(table),
        confidence=uncertainty.confidence,
        covers=covers,
        headlines=[*found, *filter(None, [headline(rows, uncertainty.confidence)])],
        made=made or {},
    )
    (out / "leaderboard.html").write_text(whole, encoding="utf-8")
    return table


def _brackets(uncertainty: Uncertainty, covers: Covers) -> str:
    """How the cells of leaderboard.md and .tex are read; the page has a legend of its own."""
    return (
        f"Brackets: {uncertainty.confidence:.0%} interval {covers.intervals}. Parentheses: difference to the pivot,"
        " paired by question; how far the value lies from the pivot's, in percent of the pivot's."
    )


def items_table(scored: Sequence[ScoredModel]) -> pd.DataFrame:
    """Every item behind the metrics: model, group, benchmark, metric, question_id, turn, category, value, reason, and
    the model's role."""
    columns = "model group benchmark metric question_id turn category value reason role"
    rows = [
        (e.model, e.group, e.benchmark, i.metric, i.question_id, i.turn, i.category, i.value, i.reason or "", e.role)
        for e in scored
        for i in e.items
    ]
    return pd.DataFrame(rows, columns=columns.split())


def notes(
    scored: Sequence[ScoredModel],
    table: pd.DataFrame,
    uncertainty: Uncertainty,
    reference_of: ReferenceOf | None = None,
    covers: Covers | None = None,
) -> list[str]:
    """What a reader must know below the table: the mark, the smallest difference that could show, variants."""
    found = []
    if table["p_to_pivot"].notna().any():
        found.append(
            f"{DAGGER} differs from the pivot after Holm's correction over the models of its column: the chance of even"
            f" one false mark in a column is at most {FAMILY_LEVEL:.0%}."
            f" {(covers or over_questions(uncertainty)).tests}."
        )
    found += _alike(scored, headings(table))
    for heading in headings(table):
        if not heading.ranked or heading.slice != "all":
            continue
        found += _could_show(scored, heading, reference_of)
        if reference_of is None:  # else there are several sets of targets, and a table of their own
            found += _mean_of_targets(scored, heading, uncertainty)
    shown = {(heading.benchmark, heading.metric) for heading in headings(table)}
    for (benchmark, metric), rows in table[table["variant"] != ""].groupby(["benchmark", "metric"], sort=False):
        kinds = ", ".join(sorted(rows["variant"].unique()))
        if (benchmark, metric) in shown:
            found.append(f"{benchmark} {metric} is the variant {kinds}: comparable with the same variant only.")
    for row in table[table["oracle"] != ""].drop_duplicates("model").itertuples():
        found.append(f"{row.model} is an ORACLE, not a system: {row.oracle}.")
    return found


def _alike(scored: Sequence[ScoredModel], shown: Sequence[Heading]) -> list[str]:
    """What the interval of a value without any spread between items is, or why there is none."""
    said = []
    for heading in shown:
        names = [entry.model for entry in scored if entry.benchmark == heading.benchmark and _flat(entry, heading)]
        if names:
            bounded = metric_of(heading.benchmark, heading.metric).ends is not None
            instead = "the interval is the widest on its scale, Wilson's" if bounded else "there is no interval"
            of = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} models"
            said.append(
                f"{heading.title}: all that was scored came out alike for {of}, which is no certainty: {instead}."
            )
    return said


def _flat(entry: ScoredModel, heading: Heading) -> bool:
    columns = entry.columns.get(heading.metric)
    if columns is None:
        return False
    values = columns.values[columns.within(heading.slice) & ~np.isnan(columns.values)]
    return len(values) > 1 and float(np.ptp(values)) < 1e-9


def _could_show(scored: Sequence[ScoredModel], heading: Heading, reference_of: ReferenceOf | None) -> list[str]:
    """Which true difference to the pivot would be marked, or that none could be."""
    place = (heading.benchmark, heading.metric, heading.slice, "pivot")
    compared = paired_samples(scored, *place, reference_of)
    if compared and all(not one.crossed and too_few(one.questions, family=len(compared)) for one in compared):
        most = max(one.questions for one in compared)
        return [
            f"{heading.title}: no difference to the pivot could be marked, however large: {most} questions are too few"
            f" with {len(compared)} compared."
        ]
    smallest = smallest_difference(scored, *place, reference_of)
    if smallest is None:
        return []
    over = f", Holm's correction over {len(compared)} models included," if len(compared) > 1 else ""
    asked = "draws and questions" if any(one.crossed for one in compared) else "questions"
    return [
        f"{heading.title}: the smallest true difference to the pivot that these {asked} would mark {DAGGER} in 8 of"
        f" 10 cases{over} is about {rounded(smallest, heading.decimals)}."
    ]


def _mean_of_targets(scored: Sequence[ScoredModel], heading: Heading, uncertainty: Uncertainty) -> list[str]:
    """How the targets do on average, before any merge, against SFT and the pivot."""
    mean = mean_model(scored, "Targets", heading.benchmark)
    parts = []
    for other in ("sft", "pivot"):
        reference = next((e for e in scored if e.role == other and e.benchmark == heading.benchmark), None)
        if mean is None or reference is None:
            continue
        found = difference(mean, reference, heading.metric, heading.slice, uncertainty)
        if found is not None and found.low is not None:
            value, low, high = (rounded(x, heading.decimals, sign=True) for x in (found.value, found.low, found.high))
            parts.append(f"{value} [{low}, {high}] to {other}")
    return [f"{heading.title}, mean of the targets: {', '.join(parts)}."] if parts else []


def _plots(table: pd.DataFrame) -> dict[str, str]:
    """Of every judged benchmark its primary metric: with intervals, as difference to the pivot; ratings by category;
    against the answers' length where that is a metric."""
    table = table.assign(model=table["model"].map(plots.label))
    shown = table.drop_duplicates("model")
    models = list(shown.loc[~shown["group"].isin(("Sources", "Ensembles")), "model"])
    figures: dict[str, Figure | None] = {}
    for name in table["benchmark"].unique():
        benchmark = judged(name)
        if benchmark is None:
            continue
        metric = benchmark.primary
        if metric.unit == "rating":
            figures["radar"] = plots.radar(table, name, metric, plots.distinguishable(table, name, metric, models))
        figures[metric.name] = plots.intervals(table, name, metric)
        figures[f"{metric.name}_difference"] = plots.intervals(table, name, metric, difference_to="pivot")
        for length in (one for one in benchmark.metrics if one.unit == "characters"):
            figures["length"] = plots.lengths(table, name, metric, length)
    return {name: plots.svg(figure) for name, figure in figures.items() if figure is not None}
