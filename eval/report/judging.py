"""What a report says about its judges: cost.csv, and how far the members of a panel agreed (agreement.csv and .md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from eval.agreement.table import AgreementRow, agreement_rows, as_csv, as_markdown
from eval.agreement.votes import Item, Votes
from eval.benchmarks import judged
from eval.records import Place
from eval.scored import JudgeCost, ScoredModel
from eval.scores.intervals import Uncertainty
from eval.spreadsheet import rows_csv


def write_judging(scored: Sequence[ScoredModel], out: Path, uncertainty: Uncertainty) -> list[str]:
    """Write cost.csv where a judge model judged and agreement.{csv,md} where a panel did; return the report's notes.

    Files that an earlier report wrote and this one does not are removed.
    """
    found_by = [entry.judged for entry in scored if entry.judged is not None]
    notes = [*dict.fromkeys(note for one in found_by for note in one.notes)]
    costs = [found for one in found_by for found in one.costs]
    _write(out / "cost.csv", cost_csv(costs) if costs else None)
    rows = panel_agreement(scored, uncertainty)
    _write(out / "agreement.csv", as_csv(rows) if rows else None)
    _write(out / "agreement.md", f"# Agreement\n\n{as_markdown(rows, uncertainty)}" if rows else None)
    for row in rows:
        name = "quadratic_kappa" if row.kind == "rating" else "kappa"
        if row.statistic == name and row.found is not None:
            ends = "" if row.found.low is None else f" [{row.found.low:.2f}, {row.found.high:.2f}]"
            notes.append(
                f"{row.first} and {row.second} agree with {name.replace('_', ' ')} {row.found.value:.2f}{ends} on"
                f" {row.items} items."
            )
    return notes


def panel_agreement(scored: Sequence[ScoredModel], uncertainty: Uncertainty) -> list[AgreementRow]:
    """Between every two members of a panel, over all models that it judged on a benchmark."""
    raters: dict[tuple[str, str], Votes] = {}
    for entry in scored:
        benchmark = judged(entry.benchmark)
        if benchmark is None or entry.judged is None:
            continue
        for member, votes in entry.judged.votes.items():
            named = raters.setdefault(
                (entry.benchmark, member),
                Votes(
                    rater=f"{member} ({entry.benchmark})",
                    kind=benchmark.verdicts,
                    nameless=True,
                ),
            )
            for place, value in votes.items():
                item, seen = _from_one_side(entry.model, place, value)
                named.by_item[item] = [seen]
    return [
        row
        for asked in dict.fromkeys(name for name, _ in raters)
        for row in agreement_rows([votes for (name, _), votes in raters.items() if name == asked], uncertainty)
    ]


def _from_one_side(model: str, place: Place, value: float) -> tuple[Item, float]:
    """A verdict on a pair of models is recorded for both, each from its own side; keep one of the two."""
    question, turn, other = place.question_id, place.turn, place.opponent
    if other and other < model:
        return (question, turn, (other, model, str(place.order and 3 - place.order))), 3 - value
    return (question, turn, (model, other, str(place.order))), value


def cost_csv(costs: Sequence[JudgeCost]) -> str:
    """One line per model, benchmark, judge and layer; `money` is empty where the judge has no price."""
    names = [field.name for field in fields(JudgeCost)]
    return rows_csv([names, *([getattr(found, name) for name in names] for found in costs)])


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(text, encoding="utf-8")
