"""What a study found, as files: every comparison as CSV; the question, the claim and the answer as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ablations.studies.replication import Runs, covers
from ablations.studies.study import Finding, Study
from eval.benchmarks import metric_of
from eval.markdown import inert, markdown_table
from eval.report.comparisons import FAMILY_LEVEL
from eval.report.sections import Entry, Section
from eval.report.tables import rounded
from eval.scores.intervals import Uncertainty
from eval.spreadsheet import table_csv

_COLUMNS = ("Arm", "Less", "Benchmark", "Difference", "Interval", "p after Holm", "Smallest")


def write_findings(
    name: str,
    study: Study,
    findings: Sequence[Finding],
    out: Path,
    *,
    below: Sequence[str] = (),
    also: Sequence[str] = (),
) -> str:
    """Write findings-<name>.csv and findings-<name>.md into `out`; return the page.

    The sentences `below` stand under its table (`reading`), and it ends in the lines `also`.
    """
    columns = [field.name for field in dataclasses.fields(Finding) if field.name != "axes"]
    rows = [{name: getattr(found, name) for name in columns} | dict(found.axes) for found in findings]
    columns += dict.fromkeys(axis for found in findings for axis in found.axes)
    table = table_csv(pd.DataFrame(rows, columns=columns))
    (out / f"findings-{name}.csv").write_text(table, encoding="utf-8")
    page = "\n".join([f"# {study.question}", "", *_claim(study, findings), "", *_table(findings), "", *below, *also])
    (out / f"findings-{name}.md").write_text(page + "\n")
    return page


def findings_section(study: Study, findings: Sequence[Finding], *, below: Sequence[str] = ()) -> Section:
    """What a study found, as a part of the report's page."""
    rows = [
        [
            Entry(text=found.arm),
            Entry(text=found.reference),
            Entry(text=f"{found.where} {found.metric}"),
            Entry(text=signed(found.difference, found), number=found.difference),
            Entry(text=bracketed(found).strip(" []")),
            Entry(text=_probability(found.p_holm), number=found.p_holm),
            Entry(text=rounded(found.smallest, _decimals(found)), number=found.smallest),
        ]
        for found in findings
        if found.whole
    ]
    claim = tuple(line.removeprefix("- ").replace("**", "") for line in _claim(study, findings) if line)
    return Section(
        title=study.question,
        notes=(*claim, *below),
        columns=_COLUMNS,
        numeric=frozenset({"Difference", "p after Holm", "Smallest"}),
        rows=rows,
    )


def reading(findings: Sequence[Finding], runs: Runs, uncertainty: Uncertainty) -> list[str]:
    """How the table of findings is read: what its intervals cover, which family was corrected, what could be seen."""
    whole = [found for found in findings if found.whole]
    if not whole:
        return []
    said = covers({f"{found.arm} on {found.where}": found.draws for found in whole}, runs, uncertainty)
    family = whole[0].family
    parts = len(findings) - len(whole)
    slices = f" The {parts} of slices, in the CSV file, are another family." if parts else ""
    return [
        f"Paired by question and seed; brackets: {uncertainty.confidence:.0%} interval {said.intervals}. {said.tests}.",
        "",
        f"p after Holm's correction over {_counted(family)} of whole benchmarks in this study, of every arm by every"
        f" measure, the claim among them; each study is a family of its own.{slices}",
        "",
        f"Smallest: the true difference that would have p after Holm of at most {FAMILY_LEVEL:.0%} in 8 of 10 cases; a"
        " smaller one that has not is no sign of equality.",
    ]


def answers(study: Study, findings: Sequence[Finding]) -> list[str]:
    """What was found on the study's claim, a sentence for each measure of all questions."""
    return [
        f"{study.claim.text} {study.verdict(found).capitalize()} on {found.where}: {_words(found)}"
        for found in findings
        if study.claimed(found) and found.whole
    ]


def _claim(study: Study, findings: Sequence[Finding]) -> list[str]:
    lines = [f"Claim: {study.claim.text} ({study.claim.source})", "", f"Held fixed: {', '.join(study.held)}.", ""]
    claimed = [found for found in findings if study.claimed(found) and found.whole]
    for found in claimed:
        lines.append(f"- **{study.verdict(found)}** on {inert(found.where)}: {inert(_words(found))}")
    if not claimed:
        lines.append("- **not measured**: the claim's arm or its reference is not among the cells.")
    return [*lines, "", f"What this can tell: {study.limits}"]


def _words(found: Finding) -> str:
    sentence = f"{found.arm} less {found.reference}: {signed(found.difference, found)}{bracketed(found)}"
    if found.p_holm is not None:
        sentence += f", p {found.p_holm:.3g} after Holm"
    if found.smallest is not None:
        sentence += f"; {rounded(found.smallest, _decimals(found))} would be marked in 8 of 10 cases"
    return sentence + "."


def _table(findings: Sequence[Finding]) -> list[str]:
    rows = [
        [
            found.arm,
            found.reference,
            f"{found.where} {found.metric}",
            f"{signed(found.difference, found)}{bracketed(found)}",
            _probability(found.p_holm),
            rounded(found.smallest, _decimals(found)),
        ]
        for found in findings
        if found.whole
    ]
    return markdown_table(("arm", "less", "benchmark", "difference", "p after Holm", "smallest"), rows)


def _counted(family: int) -> str:
    return "one comparison" if family == 1 else f"all {family} comparisons"


def _probability(p: float | None) -> str:
    return "—" if p is None else f"{p:.3g}"


def bracketed(found: Finding) -> str:
    """Its interval as it follows the difference, empty without one."""
    if found.low is None or found.high is None:
        return ""
    return f" [{signed(found.low, found)}, {signed(found.high, found)}]"


def signed(value: float, found: Finding) -> str:
    """A difference with its sign, in as many decimals as its metric has in tables."""
    return rounded(value, _decimals(found), sign=True)


def _decimals(found: Finding) -> int:
    return 1 if metric_of(found.benchmark, found.metric).unit == "percent" else 3
