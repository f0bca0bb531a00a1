"""A finished cell as trackers take it: its settings, every row of its score table, what its stages took, its files.

A row of scores.csv is the metric `<model>/<benchmark>/<metric>/<slice>`, with its interval in `.../low` and `.../high`
and, where answers could not be scored, their number in `.../unscored`.  A row without a value is a reason, no metric.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.cell_note import read_note
from eval.spreadsheet import read_csv
from fusion.runtime.artifacts import known_manifest
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import StageRecord

FILES = ("leaderboard.html", "leaderboard.md", "scores.csv", "cell.json")
# Settings of the run that leave the cell what it is.
_NOT_THE_CELLS = frozenset({"debug", "lanes", "launcher", "paths", "sweep_name", "tracking"})
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Shorter values are words that a setting may well hold, too.
_SECRET_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What trackers are given of a finished cell."""

    name: str
    experiment: str
    study: str | None
    seed: int
    axes: Mapping[str, str]
    settings: Mapping[str, object]  # nested, as Hydra composed them
    metrics: Mapping[str, float]
    unscored: Mapping[str, str]  # the metrics without a value, with the reason
    # By stage, how many of its artifacts stand behind the cell and how many seconds they took when they were computed,
    # by this run or an earlier one.
    stages: Mapping[str, tuple[int, float]]
    files: tuple[Path, ...]
    digest: str  # stands for the cell's settings
    result: str  # stands for what they gave: equal when another run changed nothing

    @property
    def group(self) -> str:
        """What the cell is found under: its study, or its experiment."""
        return self.study or self.experiment

    @property
    def numbers(self) -> dict[str, float]:
        """Everything that is a number: the metrics, then `stages/<stage>/count` and `stages/<stage>/seconds`."""
        found = dict(self.metrics)
        for stage, (count, seconds) in self.stages.items():
            found |= {f"stages/{stage}/count": float(count), f"stages/{stage}/seconds": seconds}
        return found


def record_of(settings: Mapping[str, Any], out: Path) -> CellRecord:
    """The record of the cell that was composed from `settings` and finished in `out`."""
    note = read_note(out)
    own = {key: value for key, value in settings.items() if key not in _NOT_THE_CELLS}
    own["report"] = {key: value for key, value in settings["report"].items() if key != "out"}
    identity = [note.name, note.experiment, note.study, note.seed, note.axes]
    files = tuple(path for name in FILES if (path := out / name).exists())
    metrics, unscored = scores(out / "scores.csv")
    return CellRecord(
        name=note.name,
        experiment=note.experiment,
        study=note.study,
        seed=note.seed,
        axes=note.axes,
        settings=own,
        metrics=metrics,
        unscored=unscored,
        stages=stage_seconds(note.stages),
        files=files,
        digest=_digest(json.dumps([identity, own], sort_keys=True).encode()),
        result=_digest(*(path.read_bytes() for path in files)),
    )


def scores(table: Path) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics of a scores.csv, and the reasons of its rows without a value."""
    metrics: dict[str, float] = {}
    unscored: dict[str, str] = {}
    for row in read_csv(table):
        parts = [row[column] for column in ("model", "benchmark", "metric", "slice", "variant") if row[column]]
        key = "/".join(re.sub(r"[^\w. -]", "_", part) for part in parts)
        if not row["value"]:
            unscored[key] = row["reason"] or "no reason given"
            continue
        metrics[key] = float(row["value"])
        metrics |= {f"{key}/{end}": float(row[end]) for end in ("low", "high") if row[end]}
        if int(row["unscored"]):
            metrics[f"{key}/unscored"] = float(row["unscored"])
    return metrics, unscored


def stage_seconds(stages: Sequence[StageRecord]) -> dict[str, tuple[int, float]]:
    """Stage to the count of its artifacts and the seconds in those manifests that can be read; an artifact used twice
    counts once."""
    found: dict[str, tuple[int, float]] = {}
    for stage, path in dict.fromkeys((entry.stage, entry.path) for entry in stages):
        manifest = known_manifest(Path(path))
        seconds = 0.0 if manifest is None else manifest.get("wall_seconds", 0.0)
        count, total = found.get(stage, (0, 0.0))
        found[stage] = (count + 1, round(total + seconds, 3))
    return found


def flat(settings: Any, at: str = "") -> Iterator[tuple[str, str | int | float | bool | None]]:
    """Nested settings as dotted keys and plain values; a list is one value, spelt as JSON."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from flat(value, f"{at}.{key}" if at else str(key))
    elif isinstance(settings, list):
        yield at, json.dumps(settings)
    else:
        yield at, settings


def refuse_secrets(settings: Mapping[str, object]) -> None:
    """Raise Refusal when a setting holds what the environment keeps under a name that ends in KEY, TOKEN or so."""
    secrets = {
        value: name for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= _SECRET_LENGTH
    }
    for key, value in flat(settings):
        for secret, name in secrets.items():
            if secret in str(value):
                raise Refusal(
                    f"{key} holds the value of ${name}, and settings are logged: keys are read from the environment and"
                    " belong into no setting"
                )


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:20]
