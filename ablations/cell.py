"""One cell of an experiment: fusion, evaluation, its own report; and how finished cells are found again."""

from __future__ import annotations

import csv
import hashlib
import json
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.cell_note import CELL, read_notes
from ablations.looks import looks_notes
from ablations.made_by import Code, code_of, scoring_code
from ablations.precisions import (
    as_answered,
    check_served,
    lost_notes,
    precisions,
    precisions_section,
    write_precisions,
)
from ablations.tracking import track, tracker_from
from eval.answer.candidate import Candidate
from eval.config import EvalConfig, eval_config
from eval.pipeline import evaluate
from eval.records import ItemScore
from eval.report.made import artifacts_section, made_now
from eval.report.write import write_report
from eval.scored import JudgeCost, JudgedBy, ScoredModel
from eval.scores.metric_row import MetricRow
from eval.serve.standing import Servers
from eval.spreadsheet import read_csv
from fusion.models import ModelConfig
from fusion.pipeline import FusedModels, FusionConfig, fusion_config, run
from fusion.runtime.artifacts import known_manifest
from fusion.runtime.configure import Refusal, plain
from fusion.runtime.given_model import family_of
from fusion.runtime.progress import RunProgress, StageRecord
from fusion.runtime.shortfall import shortfalls


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A finished cell on disk."""

    path: Path
    name: str
    experiment: str
    study: str | None  # the one it belongs to, or None
    seed: int
    # The overrides, seed apart, in which it differs from the cells it was found with, as the sweep spelt them.
    axes: Mapping[str, str]
    weights: Mapping[str, str]  # keys of its models' weights, by name
    checkpoints: Mapping[str, str] = field(default_factory=dict)  # their directories, by name
    roles: Mapping[str, str] = field(default_factory=dict)  # what they are in the recipe, by name
    stages: tuple[StageRecord, ...] = ()  # the artifacts behind it, in the chain's order
    code: Code = field(default_factory=dict)  # what the artifacts and the table were made by


def run_cell(
    settings: Mapping[str, Any],
    *,
    out: Path,
    name: str,
    axes: Mapping[str, str],
    study: str | None = None,
    servers: Servers | None = None,
    shown: RunProgress | None = None,
    command: Sequence[str] = (),
) -> pd.DataFrame:
    """Compute or reuse every stage of the composed experiment and write the cell's report into `out`.

    With `servers`, running servers are reused and left running; without, the cell stops those it started.  `shown`
    follows the progress of every stage.  `command` is named on the report's page.  Returns the score table.  Raises
    Refusal for settings or input that a stage will not work on.
    """
    tracker = tracker_from(settings)
    fusing: FusionConfig = fusion_config(settings)
    evaluating = evaluation_config(settings, fusing)
    with shown or RunProgress() as progress:
        fused: FusedModels = run(fusing, progress, make_room=servers.make_room if servers else lambda: None)
        check_served(fused.checkpoints, evaluating.serve, fusing.lost_update, progress.note)
        scored = evaluate(candidates(fused), evaluating, progress, own_questions(fused), servers=servers)
        progress.note(f"stages: {progress.computed} computed, {progress.reused} reused")
    artifacts = [(one, Path(one.path)) for one in progress.records()]
    held = precisions(fused.checkpoints, as_answered(progress.records(), evaluating.serve))
    table = write_report(
        scored,
        out,
        title=fusing.name,
        uncertainty=evaluating.uncertainty,
        links={"precision.csv": "precision.csv"},
        sections=lambda _: [precisions_section(held), *artifacts_section(progress.records(), out)],
        remarks=[*lost_notes(held), *shortfall_notes(artifacts), *looks_notes(artifacts)],
        made=made_now(command),
    )
    write_precisions(held, out / "precision.csv")
    cell = {
        "name": name,
        "experiment": fusing.name,
        "study": study,
        "seed": fusing.seed,
        "axes": dict(axes),
        "weights": {checkpoint.model: checkpoint.key for checkpoint in fused.checkpoints},
        "checkpoints": {checkpoint.model: str(checkpoint.path) for checkpoint in fused.checkpoints},
        "roles": {checkpoint.model: checkpoint.role for checkpoint in fused.checkpoints},
        "models": {row: entry.path for row, entry in given_models(fusing).items()},  # None: trained here
        "stages": [asdict(record) for record in progress.records()],
        "code": scoring_code(),
        "scoring": {
            "benchmarks": plain(evaluating.benchmarks),
            "judges": plain(evaluating.judges),
            "ensembles": plain(evaluating.ensembles),
            "uncertainty": plain(evaluating.uncertainty),
        },
    }
    draft = out / ".cell.json"
    draft.write_text(json.dumps(cell, indent=1) + "\n")
    draft.replace(out / CELL)  # last: a cell.json means a finished cell
    track(tracker, settings, out)
    return table


def evaluation_config(settings: Mapping[str, Any], fusing: FusionConfig) -> EvalConfig:
    """How the cell's models are evaluated.  Raises Refusal as `eval_config` does."""
    return eval_config({**settings, "families": {**families(fusing), **(settings["families"] or {})}})


def families(fusing: FusionConfig) -> dict[str, str]:
    """Whose weights the pivot and the sources descend from, by their rows of the table, where conf/model or their files
    say it."""
    found = {row: family_of(entry) for row, entry in given_models(fusing).items()}
    return {row: family for row, family in found.items() if family is not None}


def shortfall_notes(artifacts: Iterable[tuple[StageRecord, Path]]) -> list[str]:
    """A sentence below the table for each thing that a stage, whose files lie in its folder, had to leave out."""
    said = (shortfalls(record.stage, record.what, facts_at(place)) for record, place in artifacts)
    return [*dict.fromkeys(f"{text}." for texts in said for text in texts)]


def setting(axes: Mapping[str, str]) -> str:
    """A setting of the swept axes as tables print it; empty where nothing was swept."""
    return ", ".join(f"{axis}={value}" for axis, value in axes.items())


def facts_at(artifact: Path) -> Mapping[str, Any]:
    """What the stage noted that left this folder; nothing where it is not there any more, or damaged."""
    manifest = known_manifest(artifact)
    return {} if manifest is None else manifest.get("facts", {})


def candidates(fused: FusedModels) -> list[Candidate]:
    """The models that fusion hands to evaluation."""
    return [
        Candidate(model=point.model, group=point.group, path=point.path, weights=point.key, role=point.role)
        for point in fused.checkpoints
    ]


def own_questions(fused: FusedModels) -> dict[str, Path]:
    """The question files that the run made itself, by the benchmark entry."""
    return {path.stem: path for path in sorted((fused.conversations.path / "questions").glob("*.json*"))}


def given_models(fusing: FusionConfig) -> dict[str, ModelConfig]:
    """The entries of the pivot and the sources by their rows of the table."""
    sources = {f"source-{fusing.models[name].label}": fusing.models[name] for name in fusing.sources}
    return {"pivot": fusing.models[fusing.pivot], **sources}


def find_cells(where: Path) -> list[Cell]:
    """All finished cells below a directory, in the order of their names; what cannot be read is named and left out.

    Raises Refusal when there is none.
    """
    notes = read_notes(path.parent for path in sorted(where.rglob(CELL)))
    if not notes:
        raise Refusal(f"there is no finished cell below {where}: expected folders with a {CELL}, as a sweep leaves")
    overridden = dict.fromkeys(axis for note in notes.values() for axis in note.axes)
    swept = [axis for axis in overridden if len({note.axes.get(axis, "") for note in notes.values()}) > 1]
    return [
        Cell(
            path=path,
            name=note.name,
            experiment=note.experiment,
            study=note.study,
            seed=note.seed,
            axes={axis: note.axes.get(axis, "") for axis in swept},
            weights=note.weights,
            checkpoints=note.checkpoints,
            roles=note.roles,
            stages=note.stages,
            code=code_of(note.stages, note.code),
        )
        for path, note in notes.items()
    ]


def read_scored(cell: Cell) -> list[ScoredModel]:
    """The scored models that a cell's report was made from.  What several cells share is one object.

    Raises Refusal for tables that cannot be read, and for one of ensembles that does not say which of them are oracles.
    """
    try:
        return _read_scored(cell)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Refusal(
            f"the tables of the finished cell in {cell.path} cannot be read ({error!r}): run the cell again"
        ) from error


def with_tables(cells: Sequence[Cell]) -> list[Cell]:
    """Those of the cells whose tables can be read; the others are named in a warning.

    Raises Refusal when there is none.
    """
    kept = []
    for cell in cells:
        try:
            read_scored(cell)
            kept.append(cell)
        except Refusal as refusal:
            warnings.warn(f"{refusal}; that cell is left out", stacklevel=2)
    if not kept:
        raise Refusal("no finished cell has tables that can be read: run the sweep again, which reuses every stage")
    return kept


def _read_scored(cell: Cell) -> list[ScoredModel]:
    metrics = _by_model(cell.path / "scores.csv")
    items = _by_model(cell.path / "items.csv")
    costs = _by_model(cell.path / "cost.csv") if (cell.path / "cost.csv").exists() else {}
    if any(rows[0]["group"] == "Ensembles" and "oracle" not in rows[0] for rows in metrics.values()):
        raise Refusal(
            f"{cell.path / 'scores.csv'} does not say which ensembles are oracles: expected a column oracle, which an"
            " older report lacks; run the cell again"
        )
    return [_scored(rows, items.get(place, []), costs.get(place, [])) for place, rows in metrics.items()]


_SHARED: weakref.WeakValueDictionary[bytes, ScoredModel] = weakref.WeakValueDictionary()


def _scored(metrics: list[dict[str, str]], items: list[dict[str, str]], costs: list[dict[str, str]]) -> ScoredModel:
    written = repr([[*row.values()] for rows in (metrics, items, costs) for row in rows])
    key = hashlib.blake2b(written.encode()).digest()
    found = _SHARED.get(key)
    if found is None:
        found = ScoredModel(
            model=metrics[0]["model"],
            group=metrics[0]["group"],
            benchmark=metrics[0]["benchmark"],
            metrics=tuple(_metric(row) for row in metrics),
            items=tuple(_item(row) for row in items),
            judged=JudgedBy(costs=tuple(_cost(row) for row in costs), votes={}, notes=()) if costs else None,
            role=metrics[0].get("role", ""),
            oracle=metrics[0].get("oracle", ""),
        )
        _SHARED[key] = found
    return found


def _by_model(path: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    """The rows of a table by model and benchmark, in the table's order."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        if not {"model", "benchmark"} <= set(next(csv.reader(stream), [])):
            raise ValueError(f"{path.name} does not begin with the heads of its columns")
    for row in read_csv(path):
        found.setdefault((row["model"], row["benchmark"]), []).append(row)
    return found


def _metric(row: Mapping[str, str]) -> MetricRow:
    return MetricRow(
        benchmark=row["benchmark"],
        metric=row["metric"],
        slice=row["slice"],
        value=_number(row["value"]),
        low=_number(row["low"]),
        high=_number(row["high"]),
        n=int(row["n"]),
        unscored=int(row["unscored"]),
        reason=row["reason"] or None,
        variant=row["variant"],
    )


def _item(row: Mapping[str, str]) -> ItemScore:
    return ItemScore(
        benchmark=row["benchmark"],
        metric=row["metric"],
        question_id=row["question_id"],
        turn=int(row["turn"]),
        category=row["category"],
        value=_number(row["value"]),
        reason=row["reason"] or None,
    )


def _cost(row: Mapping[str, str]) -> JudgeCost:
    counts = {name: int(row[name]) for name in ("layer", "replies", "asked", "prompt_tokens", "completion_tokens")}
    return JudgeCost(
        model=row["model"], benchmark=row["benchmark"], judge=row["judge"], money=_number(row["money"]), **counts
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
