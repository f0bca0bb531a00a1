"""Cells of a sweep put together: seeds pooled, and each model named by the axes that change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ablations.cell import Cell, read_scored
from eval.comparisons import PERCENT_METRICS, in_slice
from eval.records import ItemScore
from eval.scored import ScoredModel, pooled_question, question_of
from eval.scores.intervals import Bootstrap, mean_interval
from eval.scores.metric_row import MetricRow
from fusion.configure import Refusal


def cells_directory(cells: str, artifacts: Path) -> Path:
    """A directory as it is given, or the newest sweep of an experiment or study of that name."""
    if Path(cells).is_dir():
        return Path(cells)
    sweeps = sorted((artifacts / "sweeps" / cells).glob("*/"))
    if not sweeps:
        known = sorted(path.name for path in (artifacts / "sweeps").glob("*/"))
        raise Refusal(
            f"cells={cells} is neither a directory nor a sweep below {artifacts / 'sweeps'}"
            f" (there: {', '.join(known) or 'none'}): run python -m ablations -m experiment={cells} ... first"
        )
    return sweeps[-1]


def long_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """All rows of all cells, with one column per swept axis, `seed` and `cell`."""
    parts = []
    for cell in cells:
        rows = pd.read_csv(cell.path / "scores.csv", keep_default_na=False)
        parts.append(rows.assign(**cell.axes, seed=cell.seed, cell=cell.name))
    return pd.concat(parts, ignore_index=True)


def pooled(cells: Sequence[Cell], bootstrap: Bootstrap) -> list[ScoredModel]:
    """Each model of the cells once, seeds pooled, named by the axes that change it."""
    varies = _changed_by_axes(cells)
    parts: dict[tuple[str, str], list[tuple[Cell, ScoredModel]]] = {}
    for cell in cells:
        suffix = ", ".join(f"{key}={value}" for key, value in cell.axes.items())
        for scored in read_scored(cell):
            # A row without weights of its own (an ensemble) may depend on anything.
            changed = scored.model in varies or scored.model not in cell.weights
            name = f"{scored.model} ({suffix})" if suffix and changed else scored.model
            parts.setdefault((name, scored.benchmark), []).append((cell, scored))
    return [pool(name, runs, bootstrap) for (name, _), runs in parts.items()]


def _changed_by_axes(cells: Sequence[Cell]) -> set[str]:
    """The models that some axis, and not the seed alone, gave other weights."""
    by_seed: dict[tuple[str, int], set[str]] = {}
    for cell in cells:
        for model, weights in cell.weights.items():
            by_seed.setdefault((model, cell.seed), set()).add(weights)
    return {model for (model, _), weights in by_seed.items() if len(weights) > 1}


def pool(name: str, runs: Sequence[tuple[Cell, ScoredModel]], bootstrap: Bootstrap) -> ScoredModel:
    """One model from its runs.  A model whose weights no seed changes (the pivot) still answers once for each seed, so
    that it can be paired with those that do; its own metrics are those of one run."""
    by_seed = {cell.seed: (cell, scored) for cell, scored in reversed(runs)}
    kept = [by_seed[seed] for seed in sorted(by_seed)]
    first = kept[0][1]
    if len(kept) == 1:
        return replace(first, model=name)
    items = tuple(
        replace(item, question_id=pooled_question(item.question_id, str(cell.seed)))
        for cell, scored in kept
        for item in scored.items
    )
    metrics = first.metrics
    if len({cell.weights.get(scored.model, str(cell.seed)) for cell, scored in kept}) > 1:
        every = [scored for _, scored in kept]
        metrics = tuple(_pooled_metric(row, items, every, bootstrap) for row in first.metrics)
    return replace(first, model=name, metrics=metrics, items=items)


def _pooled_metric(
    row: MetricRow, items: Sequence[ItemScore], runs: Sequence[ScoredModel], bootstrap: Bootstrap
) -> MetricRow:
    chosen = [item for item in items if item.metric == row.metric and in_slice(item, row.slice)]
    values = [item.value for item in chosen if item.value is not None]
    if values:
        scale = 100.0 if row.metric in PERCENT_METRICS else 1.0
        groups = [question_of(item.question_id) for item in chosen if item.value is not None]
        found = mean_interval(scale * np.array(values), groups, bootstrap)
        return replace(
            row,
            value=found.value,
            low=found.low,
            high=found.high,
            n=found.n,
            unscored=len(chosen) - len(values),
            reason=None,
        )
    # A metric that is no mean over items (a standard error, a length-controlled fit): the mean over the runs.
    same = [m for scored in runs for m in scored.metrics if (m.metric, m.slice) == (row.metric, row.slice)]
    known = [m.value for m in same if m.value is not None]
    return replace(
        row,
        value=float(np.mean(known)) if known else None,
        low=None,
        high=None,
        n=sum(m.n for m in same),
        unscored=sum(m.unscored for m in same),
        reason=None if known else row.reason,
    )
