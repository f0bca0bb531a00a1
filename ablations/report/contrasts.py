"""What fusion and merging are asked for: every merge less its best target, every fused model less SFT.

Paired by question, seeds pooled, each row with its interval, its p-value, Holm's correction over the rows of one table
and benchmark, and the difference that would have been marked; over draws and questions where there are draws enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.studies.measures import measures_of, where
from ablations.studies.pooling import PooledRow, counterpart
from ablations.studies.replication import Runs, covers
from eval.report.comparisons import FAMILY_LEVEL, Comparison, common, compared
from eval.report.sections import Entry, Section
from eval.report.tables import DAGGER, Heading, rounded
from eval.scores.intervals import Uncertainty

BEST_TARGET = "Merge minus best target"
FUSION_OVER_SFT = "Fusion minus SFT"
_NOTES = {
    BEST_TARGET: (
        "The best target is the one of the merge's own targets that scored highest on these same questions. Picking it"
        " afterwards flatters it: part of its lead is luck, so these differences are pessimistic for the merge. A merge"
        " that comes out above is above in spite of that; one that comes out slightly below may still equal it."
    ),
    FUSION_OVER_SFT: (
        "SFT has the same dialogues, steps and pivot, without any source's distributions: what is left is fusion's."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A row less another by one measure, in the unit of scores.csv."""

    table: str
    row: PooledRow
    other: PooledRow
    measure: Heading
    found: Comparison


def contrasts(rows: Sequence[PooledRow], uncertainty: Uncertainty) -> list[Contrast]:
    """Both tables by every measure that has the rows for them."""
    merged = [row for row in rows if row.scored.group == "Merged"]
    fused = [row for row in rows if row.scored.group in ("Targets", "Merged") or row.scored.role == "multi"]
    measures = measures_of(row.scored for row in rows)
    best = {measure: [(row, best_target(row, rows, measure)) for row in merged] for measure in measures}
    baselines = [row for row in rows if row.scored.role == "sft"]
    sft = [(row, counterpart(row, baselines)) for row in fused]
    return [
        *(found for measure in measures for found in _family(BEST_TARGET, measure, best[measure], uncertainty)),
        *(found for measure in measures for found in _family(FUSION_OVER_SFT, measure, sft, uncertainty)),
    ]


def _family(
    table: str, measure: Heading, pairs: Sequence[tuple[PooledRow, PooledRow | None]], uncertainty: Uncertainty
) -> list[Contrast]:
    chosen = [(row, other) for row, other in pairs if other and row.scored.benchmark == measure.benchmark]
    scored = [(row.scored, other.scored) for row, other in chosen]
    results = compared(scored, measure.metric, measure.slice, uncertainty)
    return [
        Contrast(table=table, row=row, other=other, measure=measure, found=result)
        for (row, other), result in zip(chosen, results, strict=True)
        if result is not None
    ]


def best_target(row: PooledRow, rows: Sequence[PooledRow], measure: Heading) -> PooledRow | None:
    """The target of the same settings with the highest mean on the questions that it shares with the row."""
    targets: dict[str, list[PooledRow]] = {}
    for found in rows:
        if found.scored.group == "Targets":
            targets.setdefault(found.model, []).append(found)
    best, highest = None, float("-inf")
    for settings in targets.values():
        other = counterpart(row, settings)
        values = common(other.scored, row.scored, measure.metric, measure.slice).first if other else np.empty(0)
        if values.size and values.mean() > highest:
            best, highest = other, float(values.mean())
    return best


def contrast_table(found: Sequence[Contrast]) -> pd.DataFrame:
    """One line per contrast, as contrasts.csv keeps them."""
    names = ["table", "model", "minus", "benchmark", "metric", "slice"]
    numbers = ["difference", "low", "high", "p", "p_holm", "smallest", "n", "draws", "interval", "family"]
    return pd.DataFrame(
        [
            (c.table, c.row.label, c.other.label, c.measure.benchmark, c.measure.metric, c.measure.slice,
             ends.value, ends.low, ends.high, c.found.p, c.found.p_holm, c.found.smallest, ends.n,
             c.found.sampled.draws, c.found.sampled.over, c.found.family)
            for c in found
            for ends in [c.found.difference]
        ],
        columns=[*names, *numbers],
    )  # fmt: skip


def contrast_sections(found: Sequence[Contrast], runs: Runs, uncertainty: Uncertainty) -> list[Section]:
    """The tables as parts of the page."""
    sections = []
    for table, note in _NOTES.items():
        chosen = [contrast for contrast in found if contrast.table == table]
        if not chosen:
            continue
        columns = ("Model", "Minus", "Benchmark", "Difference", "95% interval", "p", "p after Holm", "Would mark", "n")
        said = covers({c.row.label: c.found.sampled.draws for c in chosen}, runs, uncertainty)
        below = (
            note,
            f"Paired by question, seeds pooled; {uncertainty.confidence:.0%} interval {said.intervals}. {said.tests};"
            f" {DAGGER} at most {FAMILY_LEVEL:.0%} after Holm's correction over the rows of one benchmark. Would mark:"
            " the smallest true difference that would get its mark in 8 of 10 cases; empty where none can be told.",
        )
        sections.append(
            Section(
                title=table,
                notes=below,
                columns=columns,
                numeric=frozenset(columns[3:]),
                rows=[_entries(contrast) for contrast in chosen],
            )
        )
    return sections


def _entries(contrast: Contrast) -> list[Entry]:
    found, ends = contrast.found, contrast.found.difference
    measure = contrast.measure
    decimals = measure.decimals
    mark = DAGGER if found.marked else ""
    interval = "" if ends.low is None else " to ".join(rounded(x, decimals, sign=True) for x in (ends.low, ends.high))
    return [
        Entry(text=contrast.row.label),
        Entry(text=contrast.other.label),
        Entry(text=f"{where(measure.benchmark, measure.slice)} {measure.metric}"),
        Entry(text=rounded(ends.value, decimals, sign=True) + mark, number=ends.value),
        Entry(text=interval, number=ends.low),
        Entry(text=f"{found.p:.3g}", number=found.p),
        Entry(text=f"{found.p_holm:.3g}", number=found.p_holm),
        Entry(text=rounded(found.smallest, decimals), number=found.smallest),
        Entry(text=str(ends.n), number=ends.n),
    ]
