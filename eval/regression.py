"""python -m eval.regression scores=SCORES.csv baseline=BASELINE.json [update=true]: what moved against a kept table.

The baseline is a JSON list of records with the columns of scores.csv.  A metric regressed when it fell below its
baseline interval, is missing, or can no longer be computed; exit status 1 then.  What rose above its interval, and
rows the baseline does not know, are told and do no harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from eval.tables import SCORE_COLUMNS
from fusion.command import command
from fusion.configure import Refusal

KEY = ["model", "benchmark", "metric", "slice"]
# Not better or worse by themselves; and an interval's width is no result.
UNRANKED = frozenset({"average_length", "standard_error"})
Kind = Literal["regressed", "missing", "unscored", "improved", "new"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One row that is not where the baseline has it; `before` and `after` in the unit of scores.csv."""

    kind: Kind
    model: str
    benchmark: str
    metric: str
    slice: str
    before: float | None
    low: float | None
    high: float | None
    after: float | None
    reason: str = ""

    @property
    def fails(self) -> bool:
        """Whether this alone makes the check fail."""
        return self.kind in ("regressed", "missing", "unscored")

    def __str__(self) -> str:
        place = f"{self.model} {self.benchmark} {self.metric} {self.slice}"
        if self.kind == "new":
            return f"new        {place}: {_spell(self.after)}"
        kept = f"{_spell(self.before)} [{_spell(self.low)}, {_spell(self.high)}]"
        if self.kind == "missing":
            return f"missing    {place}: was {kept}"
        if self.kind == "unscored":
            return f"unscored   {place}: was {kept}; {self.reason or 'no value'}"
        return f"{self.kind:<10} {place}: {kept} -> {_spell(self.after)}"


def compare(scores: pd.DataFrame, baseline: pd.DataFrame) -> list[Moved]:
    """Every row that moved beyond its baseline interval, in the baseline's order, then the new rows."""
    now = {tuple(row[name] for name in KEY): row for row in scores.to_dict("records")}
    known = {tuple(row[name] for name in KEY): row for row in baseline.to_dict("records")}
    moved = []
    for place, before in known.items():
        value = _number(before["value"])
        if value is None or before["metric"] in UNRANKED:
            continue
        row = now.get(place)
        after = _number(row["value"]) if row is not None else None
        low, high = (_number(before[name]) for name in ("low", "high"))
        if row is None:
            kind: Kind | None = "missing"
        elif after is None:
            kind = "unscored"
        elif after < (value if low is None else low):
            kind = "regressed"
        elif after > (value if high is None else high):
            kind = "improved"
        else:
            kind = None
        if kind is not None:
            reason = str(row.get("reason") or "") if row is not None else ""
            names = dict(zip(KEY, map(str, place), strict=True))
            moved.append(Moved(kind=kind, **names, before=value, low=low, high=high, after=after, reason=reason))
    for place, row in now.items():
        if place not in known and row["metric"] not in UNRANKED:
            names = dict(zip(KEY, map(str, place), strict=True))
            moved.append(Moved(kind="new", **names, before=None, low=None, high=None, after=_number(row["value"])))
    return moved


def read_scores(path: Path) -> pd.DataFrame:
    """A scores.csv, or a baseline's JSON list.  Raises Refusal when it is not there or lacks a column."""
    if not path.exists():
        raise Refusal(f"there is no {path}: run `make demo` for scores, `make eval UPDATE=1` for a baseline")
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.DataFrame(json.loads(path.read_text()))
    except ValueError as error:
        raise Refusal(f"{path} cannot be read as a score table: {error}") from error
    lacking = [name for name in SCORE_COLUMNS if name not in table]
    if lacking:
        raise Refusal(f"{path} has no column {', '.join(lacking)}: expected the columns of scores.csv")
    return table


def write_baseline(scores: pd.DataFrame, path: Path) -> None:
    """Keep `scores` as the table to compare with: one record a line, so that a diff shows what moved."""
    records = json.loads(scores[SCORE_COLUMNS].to_json(orient="records"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")


def summary(moved: Sequence[Moved], compared: int) -> str:
    """What moved, a line each, and how the check ends."""
    failures = sum(entry.fails for entry in moved)
    verdict = (
        f"{failures} of {compared} metrics regressed" if failures else f"{compared} metrics within their intervals"
    )
    return "\n".join([*map(str, moved), verdict])


def run(settings: dict[str, Any]) -> int:
    """Compare, or rewrite the baseline; 1 when something regressed."""
    scores = read_scores(Path(settings["scores"]))
    path = Path(settings["baseline"])
    if settings["update"]:
        if path.exists():
            print(summary(compare(scores, read_scores(path)), len(read_scores(path))))
        write_baseline(scores, path)
        print(f"written: {path}")
        return 0
    baseline = read_scores(path)
    moved = compare(scores, baseline)
    print(summary(moved, len(baseline)))
    return int(any(entry.fails for entry in moved))


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _spell(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    command("regression", run)
