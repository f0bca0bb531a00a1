"""What a study found, as files: every comparison as CSV; the question, the claim and the answer as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ablations.studies.study import Finding, Study
from eval.benchmarks import metric_of
from eval.markdown import inert, markdown_table
from eval.report.sections import Entry, Section
from eval.report.tables import rounded
from eval.spreadsheet import table_csv


def write_findings(name: str, study: Study, findings: Sequence[Finding], out: Path, *, also: Sequence[str] = ()) -> str:
    """Write findings-<name>.csv and findings-<name>.md into `out`; return the page, which ends in the lines `also`."""
    columns = [field.name for field in dataclasses.fields(Finding) if field.name != "axes"]
    rows = [{name: getattr(found, name) for name in columns} | dict(found.axes) for found in findings]
    columns += dict.fromkeys(axis for found in findings for axis in found.axes)
    table = table_csv(pd.DataFrame(rows, columns=columns))
    (out / f"findings-{name}.csv").write_text(table, encoding="utf-8")
    page = "\n".join([f"# {study.question}", "", *_claim(study, findings), "", *_table(findings), *also])
    (out / f"findings-{name}.md").write_text(page + "\n")
    return page


def findings_section(study: Study, findings: Sequence[Finding]) -> Section:
    """What a study found, as a part of the report's page."""
    rows = []
    for found in findings:
        if found.whole:
            interval = _interval(found).strip(" []")
            numbers = [(f"{p:.3g}" if p is not None else "—", p) for p in (found.p, found.p_holm)]
            rows.append(
                [
                    Entry(text=found.arm),
                    Entry(text=found.reference),
                    Entry(text=f"{found.where} {found.metric}"),
                    Entry(text=_signed(found.difference, found), number=found.difference),
                    Entry(text=interval),
                    *(Entry(text=text, number=p) for text, p in numbers),
                ]
            )
    columns = ("Arm", "Minus", "Benchmark", "Difference", "Interval", "p", "p after Holm")
    return Section(
        title=study.question,
        notes=tuple(line.removeprefix("- ").replace("**", "") for line in _claim(study, findings) if line),
        columns=columns,
        numeric=frozenset({"Difference", "p", "p after Holm"}),
        rows=rows,
    )


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
    sentence = f"{found.arm} less {found.reference}: {_signed(found.difference, found)}{_interval(found)}"
    if found.p_holm is not None:
        sentence += f", p {found.p_holm:.3g} after Holm"
    if found.smallest is not None:
        sentence += f"; these questions would mark {rounded(found.smallest, _decimals(found))} in 8 of 10 cases"
    return sentence + "."


def _table(findings: Sequence[Finding]) -> list[str]:
    rows = []
    for found in findings:
        if found.whole:
            values = [f"{p:.3g}" if p is not None else "—" for p in (found.p, found.p_holm)]
            difference = f"{_signed(found.difference, found)}{_interval(found)}"
            rows.append([found.arm, found.reference, f"{found.where} {found.metric}", difference, *values])
    return [
        *markdown_table(("arm", "less", "benchmark", "difference", "p", "p after Holm"), rows),
        "",
        "Paired by question and seed; brackets: 95% interval by bootstrap over questions; slices in the CSV file.",
    ]


def _interval(found: Finding) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" [{_signed(found.low, found)}, {_signed(found.high, found)}]"


def _signed(value: float, found: Finding) -> str:
    return rounded(value, _decimals(found), sign=True)


def _decimals(found: Finding) -> int:
    return 1 if metric_of(found.benchmark, found.metric).unit == "percent" else 3
