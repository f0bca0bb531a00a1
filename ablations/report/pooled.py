"""The report of a set of cells: leaderboard with seeds pooled, findings, contrasts, plots over the axes, origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ablations.cell import Cell, shortfall_notes
from ablations.looks import looks_notes
from ablations.precisions import Precision, precisions_section, read_precisions
from ablations.report.contrasts import contrast_sections, contrast_table, contrasts
from ablations.report.origins import artifact, artifacts_section, cells_section, processors
from ablations.report.plots import coefficient_map, heat_maps, seed_spread
from ablations.report.published import Published, compare_section, comparison, shapes
from ablations.studies import STUDIES
from ablations.studies.findings import answers, findings_section, reading, write_findings
from ablations.studies.outcomes import outcomes, predictions_section, write_predictions
from ablations.studies.pooling import PooledRow, counterpart, long_table, pooled
from ablations.studies.replication import Runs, covers, runs_of
from eval.report.covers import Covers
from eval.report.made import made_now
from eval.report.plots import svg
from eval.report.sections import Section, as_markdown
from eval.report.write import write_report
from eval.scores.intervals import Uncertainty
from eval.spreadsheet import table_csv
from fusion.runtime.progress import StageRecord
from fusion.runtime.visible import visible

_MOST_MAPS = 24  # of coefficients


def write_pooled_report(
    cells: Sequence[Cell],
    where: Path,
    out: Path,
    *,
    uncertainty: Uncertainty,
    models: Sequence[str] = (),
    published: Published | None = None,
) -> pd.DataFrame:
    """Write the report of cells found below `where` into `out`; return its table.

    `models` are those of the heat-maps (none: all merges), `published` a table to lay beside ours.
    """
    out.mkdir(parents=True, exist_ok=True)
    studied, links, said = _studies(cells, uncertainty, out)
    rows = pooled(cells, uncertainty)
    runs = runs_of(cells)
    references, artifacts = _references(rows), _artifacts(cells)

    def sections(table: pd.DataFrame) -> Sequence[Section]:
        below = [*studied, *_contrasts(rows, runs, uncertainty, out), *_plots(rows, models, runs, uncertainty, out)]
        if published is not None:
            below.append(_beside(published, table, out))
        return [*below, *_precisions(rows), cells_section(cells, where, out), *artifacts_section(cells, out)]

    table = write_report(
        [row.scored for row in rows],
        out,
        title=", ".join(dict.fromkeys(cell.experiment for cell in cells)),
        uncertainty=uncertainty,
        links=links,
        found=said,
        made=made_now(),
        reference_of=lambda model, other: references.get((model, other)),
        sections=sections,
        remarks=[*shortfall_notes(artifacts), *looks_notes(artifacts)],
        covers=_covers(rows, runs, uncertainty),
    )
    (out / "scores.csv").write_text(table_csv(long_table(cells)), encoding="utf-8")
    return table


def _covers(rows: Sequence[PooledRow], runs: Runs, uncertainty: Uncertainty) -> Covers:
    return covers({row.label: row.draws for row in rows}, runs, uncertainty)


def _artifacts(cells: Sequence[Cell]) -> list[tuple[StageRecord, Path]]:
    """Every artifact behind the cells that is still there, once, with its folder."""
    used = {(record.stage, record.key): (record, cell) for cell in cells for record in cell.stages}
    found = ((record, artifact(record.path, cell)) for record, cell in used.values())
    return [(record, place) for record, place in found if place is not None]


def _references(rows: Sequence[PooledRow]) -> Mapping[tuple[str, str], str]:
    """The pivot and the SFT baseline of the same settings, by label."""
    return {
        (row.label, role): found.label
        for role in ("pivot", "sft")
        for others in [[row for row in rows if row.scored.role == role]]
        for row in rows
        if (found := counterpart(row, others)) is not None
    }


def _studies(
    cells: Sequence[Cell], uncertainty: Uncertainty, out: Path
) -> tuple[list[Section], dict[str, str], list[str]]:
    """The findings of every study among the cells: written, printed, and as parts of the page; links to their files;
    what they say of the studies' claims."""
    sections, links, said = [], {}, []
    for name in dict.fromkeys(cell.study for cell in cells if cell.study in STUDIES):
        study = STUDIES[name]
        own = [cell for cell in cells if cell.study == name]
        findings = study.analyse(own, uncertainty)
        also = [*study.also(own, uncertainty)] if study.also else []
        below = reading(findings, runs_of(own), uncertainty)
        below += [line for sentence in processors(_artifacts(own)) for line in ("", sentence)]
        sections.append(findings_section(study, findings, below=[line for line in below if line]))
        if study.predictions:
            found = outcomes(study, findings, own, uncertainty)
            write_predictions(name, found, out)
            sections.append(predictions_section(found))
            also += ["", as_markdown(sections[-1])]
        print(visible(write_findings(name, study, findings, out, below=below, also=also), lines=True))
        links[f"findings of {name}"] = f"findings-{name}.md"
        said += answers(study, findings)
    return sections, links, said


def _contrasts(rows: Sequence[PooledRow], runs: Runs, uncertainty: Uncertainty, out: Path) -> list[Section]:
    found = contrasts(rows, uncertainty)
    sections = contrast_sections(found, runs, uncertainty)
    (out / "contrasts.csv").write_text(table_csv(contrast_table(found)), encoding="utf-8")
    (out / "contrasts.md").write_text("\n".join(as_markdown(section) for section in sections))
    return sections


def _plots(
    rows: Sequence[PooledRow], models: Sequence[str], runs: Runs, uncertainty: Uncertainty, out: Path
) -> list[Section]:
    maps, spread = heat_maps(rows, models, uncertainty), seed_spread(rows)
    coefficients, notes = _coefficients(rows)
    said = _covers([row for row in rows if row.draws > 1], runs, uncertainty).intervals
    parts = {
        "Axes together": (maps, ("Means over questions and over everything that is not on the two axes, with their"
                                 " intervals. Colours span the values of one map, however near: read the intervals.",)),
        "Seeds": (spread, (f"Circle: one seed. Line: the pooled estimate. Bar: its interval {said}. An interval over"
                           " questions only does not contain what other seeds would give.",)),
        "Merge coefficients": (coefficients, (*notes,)),
    }  # fmt: skip
    return [
        Section(title=title, notes=notes, figures=tuple(_saved(figures, title, out)))
        for title, (figures, notes) in parts.items()
        if figures or (title == "Merge coefficients" and notes)
    ]


def _coefficients(rows: Sequence[PooledRow]) -> tuple[dict[str, Figure], list[str]]:
    """The coefficients of each merged row's first seed: a plot, or a sentence where the rule weighs all alike."""
    figures: dict[str, Figure] = {}
    notes: dict[str, None] = {}
    left_out = 0
    merged = {row.label: row for row in rows if row.scored.group == "Merged"}
    for row in merged.values():
        seed, (cell, _) = next(iter(row.runs.items()))
        place = artifact(cell.checkpoints[row.model], cell) if row.model in cell.checkpoints else None
        file = place / "coefficients.parquet" if place else None
        if file is None or not file.exists():
            continue
        label = row.label if len(row.runs) == 1 else f"{row.label}, seed {seed}"
        found = coefficient_map(label, pd.read_parquet(file))
        if isinstance(found, str):
            notes[f"{row.model}: {found}"] = None
        elif len(figures) < _MOST_MAPS:
            figures[label] = found
        else:
            left_out += 1
    if left_out:
        notes[f"{left_out} more are not drawn; every merged checkpoint has its coefficients.parquet."] = None
    return figures, list(notes)


def _precisions(rows: Sequence[PooledRow]) -> list[Section]:
    """Of each row's first seed; nothing of cells that do not say."""
    found: dict[str, Precision] = {}
    for row in rows:
        cell, _ = next(iter(row.runs.values()))
        file = cell.path / "precision.csv"
        own = [one for one in read_precisions(file) if one.model == row.model] if file.exists() else []
        for one in own:
            found.setdefault(row.label, replace(one, model=row.label))
    return [precisions_section([*found.values()])] if found else []


def _beside(published: Published, table: pd.DataFrame, out: Path) -> Section:
    figure = shapes(published, table)
    section = compare_section(published, table, _saved({"shape": figure} if figure else {}, "compare", out))
    (out / "compare.csv").write_text(table_csv(comparison(published, table)), encoding="utf-8")
    (out / "compare.md").write_text(as_markdown(section))
    return section


def _saved(figures: dict[str, Figure], kind: str, out: Path) -> list[str]:
    """The figures as SVG, each also in a file of its own."""
    drawn = []
    for name, figure in figures.items():
        file = "".join(letter if letter.isalnum() else "_" for letter in f"{kind} {name}".lower())
        drawn.append(svg(figure))
        (out / "plots" / f"{file}.svg").write_text(drawn[-1])
    return drawn
