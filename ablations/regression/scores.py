"""A score table beside a kept one: every metric that moved, by how much, and whether beyond its kept interval.

The kept table is a JSON list of records with the columns of scores.csv.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from eval.benchmarks import metric_of
from eval.report.tables import SCORE_COLUMNS
from fusion.runtime.configure import Refusal
from fusion.runtime.reading import read_json

KEY = ["model", "benchmark", "metric", "slice"]
_Rows = Mapping[tuple[object, ...], Mapping[str, Any]]
ChangeKind = Literal["regressed", "improved", "shifted", "missing", "unscored", "within", "new"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One row that is not where the kept table has it; numbers are in the unit of scores.csv."""

    kind: ChangeKind
    """Beyond its interval it has `regressed`, `improved`, or, where more is neither better nor worse, `shifted`."""
    model: str
    benchmark: str
    metric: str
    slice: str
    before: float | None
    """The kept value; `low` and `high` are its interval's ends."""
    low: float | None
    high: float | None
    after: float | None
    reason: str = ""
    """Why there is no value after."""

    @property
    def fails(self) -> bool:
        """Whether this alone makes the check fail: a broken rule may well raise a number."""
        return self.kind not in ("within", "new")

    @property
    def place(self) -> str:
        """Which number of the table it is."""
        return f"{self.model} {self.benchmark} {self.metric} {self.slice}"

    def __str__(self) -> str:
        kept = f"{_spell(self.before)} [{_spell(self.low)}, {_spell(self.high)}]"
        if self.kind == "new":
            said = _spell(self.after)
        elif self.kind == "missing":
            said = f"was {kept}"
        elif self.kind == "unscored":
            said = f"was {kept}; {self.reason or 'no value'}"
        else:
            assert self.before is not None and self.after is not None
            said = f"{kept} -> {_spell(self.after)} ({self.after - self.before:+.3f})"
        return f"{self.kind:<10} {self.place}: {said}"


def compare(scores: pd.DataFrame, kept: pd.DataFrame) -> list[Moved]:
    """Every row that moved, in the kept table's order, then the new rows.

    A number without an interval must not move at all, unless it says how precise another is.
    """
    now = {tuple(row[name] for name in KEY): row for row in scores.to_dict("records")}
    known = {tuple(row[name] for name in KEY): row for row in kept.to_dict("records")}
    return [*_known(now, known), *_new(now, known)]


def _known(now: _Rows, known: _Rows) -> Iterator[Moved]:
    for place, before in known.items():
        value, low, high = (_number(before[name]) for name in ("value", "low", "high"))
        sense = metric_of(before["benchmark"], before["metric"]).sense
        if value is None or (low is None and not sense):
            continue
        row = now.get(place)
        after = _number(row["value"]) if row is not None else None
        kind: ChangeKind
        if row is None:
            kind = "missing"
        elif after is None:
            kind = "unscored"
        elif math.isclose(after, value, rel_tol=1e-9, abs_tol=1e-9):
            continue
        elif low is not None and high is not None and low <= after <= high:
            kind = "within"
        else:
            kind = _direction(sense * (after - value))
        yield Moved(
            kind=kind,
            **dict(zip(KEY, map(str, place), strict=True)),
            before=value,
            low=low,
            high=high,
            after=after,
            reason=str(row.get("reason") or "") if row is not None else "",
        )


def _new(now: _Rows, known: _Rows) -> Iterator[Moved]:
    for place, row in now.items():
        if place not in known and metric_of(row["benchmark"], row["metric"]).sense:
            names = dict(zip(KEY, map(str, place), strict=True))
            yield Moved(kind="new", **names, before=None, low=None, high=None, after=_number(row["value"]))


def _direction(gain: float) -> ChangeKind:
    return "shifted" if not gain else "improved" if gain > 0 else "regressed"


def read_scores(path: Path) -> pd.DataFrame:
    """A scores.csv, or a kept table's JSON list.  Raises Refusal when it is not there or lacks a column."""
    if not path.exists():
        raise Refusal(f"there is no {path}: run `make demo` for scores, `make eval UPDATE=1` for a baseline")
    try:
        kept = path.suffix != ".csv"
        table = pd.DataFrame(read_json(path, expected="a kept table")) if kept else pd.read_csv(path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
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


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _spell(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
