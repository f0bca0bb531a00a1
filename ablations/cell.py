"""One cell of an experiment: fusion, evaluation, its own report; and how finished cells are found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from eval.config import EvalConfig, eval_config
from eval.pipeline import evaluate
from eval.records import ItemScore
from eval.report import write_report
from eval.scored import ScoredModel
from eval.scores.metric_row import MetricRow
from eval.serve.standing import Servers
from eval.stages import Candidate
from fusion.configure import Refusal
from fusion.pipeline import FusedModels, FusionConfig, fusion_config, run
from fusion.progress import RunProgress


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A finished cell on disk: `axes` are the overrides, seed apart, in which it differs from the cells it was found
    with, as the sweep spelt them; `study` is the one it belongs to, or None; `weights` are its models', by name.
    """

    path: Path
    name: str
    experiment: str
    study: str | None
    seed: int
    axes: Mapping[str, str]
    weights: Mapping[str, str]


def run_cell(
    settings: Mapping[str, Any],
    *,
    out: Path,
    name: str,
    axes: Mapping[str, str],
    study: str | None = None,
    servers: Servers | None = None,
) -> pd.DataFrame:
    """Compute or reuse every stage of the composed experiment and write the cell's report into `out`.

    `servers` stay up for the next cell; without, the cell's own end with it.  Returns the score table.  Raises Refusal
    for settings or input that a stage will not work on.
    """
    fusing: FusionConfig = fusion_config(settings)
    evaluating: EvalConfig = eval_config({**settings, "families": {**families(fusing), **(settings["families"] or {})}})
    with RunProgress() as progress:
        fused: FusedModels = run(fusing, progress, make_room=servers.make_room if servers else lambda: None)
        candidates = [
            Candidate(model=point.model, group=point.group, path=point.path, weights=point.key)
            for point in fused.checkpoints
        ]
        made = {path.stem: path for path in sorted((fused.conversations.path / "questions").glob("*.json*"))}
        scored = evaluate(candidates, evaluating, progress, made, servers=servers)
        progress.note(f"stages: {progress.computed} computed, {progress.reused} reused")
    table = write_report(scored, out, title=fusing.name, bootstrap=evaluating.bootstrap)
    cell = {
        "name": name,
        "experiment": fusing.name,
        "study": study,
        "seed": fusing.seed,
        "axes": dict(axes),
        "weights": {checkpoint.model: checkpoint.key for checkpoint in fused.checkpoints},
        "checkpoints": {checkpoint.model: str(checkpoint.path) for checkpoint in fused.checkpoints},
        "stages": [asdict(record) for record in progress.records()],
    }
    draft = out / ".cell.json"
    draft.write_text(json.dumps(cell, indent=1) + "\n")
    draft.replace(out / "cell.json")  # last: a cell.json means a finished cell
    return table


def families(fusing: FusionConfig) -> dict[str, str]:
    """Whose weights the pivot and the sources descend from, by their rows of the table, where conf/model says it."""
    models = {"pivot": fusing.models[fusing.pivot]}
    models |= {f"source-{fusing.models[name].label}": fusing.models[name] for name in fusing.sources}
    return {row: model.family for row, model in models.items() if model.family is not None}


def find_cells(where: Path) -> list[Cell]:
    """All finished cells below a directory, in the order of their names.  Raises Refusal when there is none."""
    rows = {path.parent: json.loads(path.read_text()) for path in sorted(where.rglob("cell.json"))}
    if not rows:
        raise Refusal(f"there is no finished cell below {where}: expected folders with a cell.json, as a sweep leaves")
    overridden = dict.fromkeys(axis for row in rows.values() for axis in row["axes"])
    swept = [axis for axis in overridden if len({row["axes"].get(axis, "") for row in rows.values()}) > 1]
    return [
        Cell(
            path=path,
            name=row["name"],
            experiment=row["experiment"],
            study=row.get("study"),
            seed=row["seed"],
            axes={axis: row["axes"].get(axis, "") for axis in swept},
            weights=row["weights"],
        )
        for path, row in rows.items()
    ]


def read_scored(cell: Cell) -> list[ScoredModel]:
    """The scored models that a cell's report was made from."""
    metrics = pd.read_csv(
        cell.path / "scores.csv", keep_default_na=False, na_values={"value": [""], "low": [""], "high": [""]}
    )
    items = pd.read_csv(
        cell.path / "items.csv", keep_default_na=False, na_values={"value": [""]}, dtype={"question_id": str}
    )
    by_model = dict(list(items.groupby(["model", "benchmark"], sort=False)))
    scored = []
    for (model, benchmark), rows in metrics.groupby(["model", "benchmark"], sort=False):
        own = by_model.get((model, benchmark), items.iloc[:0])
        scored.append(
            ScoredModel(
                model=str(model),
                group=str(rows["group"].iloc[0]),
                benchmark=str(benchmark),
                metrics=tuple(_metric(row) for row in rows.to_dict("records")),
                items=tuple(_item(row) for row in own.to_dict("records")),
            )
        )
    return scored


def _metric(row: Mapping[str, Any]) -> MetricRow:
    value, low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("value", "low", "high"))
    return MetricRow(
        benchmark=row["benchmark"],
        metric=row["metric"],
        slice=row["slice"],
        value=value,
        low=low,
        high=high,
        n=int(row["n"]),
        unscored=int(row["unscored"]),
        reason=row["reason"] or None,
        variant=row["variant"],
    )


def _item(row: Mapping[str, Any]) -> ItemScore:
    return ItemScore(
        benchmark=row["benchmark"],
        metric=row["metric"],
        question_id=row["question_id"],
        turn=int(row["turn"]),
        category=row["category"],
        value=None if pd.isna(row["value"]) else float(row["value"]),
        reason=row["reason"] or None,
    )
