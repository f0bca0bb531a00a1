"""What became of a study's predictions: each beside the result, as CSV and as a part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ablations.cell import Cell
from ablations.studies.findings import bracketed, signed
from ablations.studies.prediction import DirectionVerdict, Prediction, SizeVerdict
from ablations.studies.study import Finding, Study
from eval.report.comparisons import FAMILY_LEVEL
from eval.report.sections import Entry, Section
from eval.scores.intervals import Uncertainty
from eval.spreadsheet import table_csv

_COLUMNS = (
    "prediction made measure expects size_low size_high arm reference difference low high p_holm direction size".split()
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A prediction and one result that it speaks of; None: its arm, its reference or its measure was not run."""

    prediction: Prediction
    found: Finding | None

    @property
    def direction(self) -> DirectionVerdict | None:
        """As `Prediction.direction`; None without a result."""
        if self.found is None:
            return None
        p = self.found.p_holm
        return self.prediction.direction(self.found.low, self.found.high, found=p is None or p <= FAMILY_LEVEL)

    @property
    def size(self) -> SizeVerdict | None:
        """As `Prediction.size_of`; None without a result."""
        return None if self.found is None else self.prediction.size_of(self.found.low, self.found.high)


def outcomes(
    study: Study, findings: Sequence[Finding], cells: Sequence[Cell], uncertainty: Uncertainty
) -> list[Outcome]:
    """Every prediction of a study with the results that it speaks of: one for each setting that it leaves open.

    `findings` are the study's own; a prediction with a reference of its own has the cells compared with that one.
    """
    found: list[Outcome] = []
    for prediction in study.predictions:
        compared = findings
        if prediction.reference is not None:
            compared = replace(study, reference=prediction.reference).analyse(cells, uncertainty)
        meant = [
            one for one in compared if one.where == prediction.measure and prediction.arm.fits(one.model, one.axes)
        ]
        found += [Outcome(prediction=prediction, found=one) for one in meant or (None,)]
    return found


def write_predictions(name: str, found: Sequence[Outcome], out: Path) -> None:
    """Write findings-<name>-predictions.csv into `out`."""
    table = pd.DataFrame([_record(outcome) for outcome in found], columns=_COLUMNS)
    (out / f"findings-{name}-predictions.csv").write_text(table_csv(table), encoding="utf-8")


def predictions_section(found: Sequence[Outcome]) -> Section:
    """The predictions beside what was found, as a part of a page."""
    rows = []
    for outcome in found:
        prediction, result = outcome.prediction, outcome.found
        said = f"{prediction.text} ({prediction.made.isoformat()}, {prediction.measure})"
        if result is None:
            shown, verdict = "—", "not measured"
        else:
            shown = f"{result.arm} less {result.reference}: {signed(result.difference, result)}{bracketed(result)}"
            verdict = _verdict(outcome)
        rows.append([Entry(text=text) for text in (said, _expected(prediction), shown, verdict)])
    return Section(
        title="Predictions",
        notes=(
            "Written down before the study was run. A direction is right or wrong where the difference is a finding of"
            " the study and its interval leaves zero out; a size is told where the whole interval lies within, below"
            " or above the range.",
        ),
        columns=("Prediction", "Expected", "Result", "Verdict"),
        rows=rows,
    )


def _verdict(outcome: Outcome) -> str:
    direction = outcome.direction if outcome.direction == "no claim" else f"direction {outcome.direction}"
    return f"{direction}; size {outcome.size}" if outcome.prediction.size is not None else f"{direction}"


def _expected(prediction: Prediction) -> str:
    if prediction.size is None:
        return prediction.expects
    low, high = (f"{end:+g}".replace("-", "−") if end else "0" for end in prediction.size)
    return f"{prediction.expects}, {low} to {high}"


def _record(outcome: Outcome) -> dict[str, object]:
    prediction, found = outcome.prediction, outcome.found
    low, high = prediction.size or (None, None)
    record: dict[str, object] = {
        "prediction": prediction.text,
        "made": prediction.made.isoformat(),
        "measure": prediction.measure,
        "expects": prediction.expects,
        "size_low": low,
        "size_high": high,
        "direction": outcome.direction,
        "size": outcome.size,
    }
    if found is not None:
        record |= {name: getattr(found, name) for name in ("arm", "reference", "difference", "low", "high", "p_holm")}
    return record
