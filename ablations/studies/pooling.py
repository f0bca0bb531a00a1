"""Cells of a sweep put together: seeds pooled, and each model named by the axes that change it."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ablations.cell import Cell, read_scored, setting
from eval.benchmarks import metric_of
from eval.scored import ItemColumns, JudgedBy, ScoredModel, draws_of, pooled_question
from eval.scores.crossed import FEWEST_RUNS, crossed_mean
from eval.scores.intervals import Interval, Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow
from eval.spreadsheet import read_csv


def long_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """All rows of all cells, with one column per swept axis, `seed` and `cell`."""
    parts = []
    for cell in cells:
        rows = pd.DataFrame(read_csv(cell.path / "scores.csv"))
        parts.append(rows.assign(**cell.axes, seed=cell.seed, cell=cell.name))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class PooledRow:
    """A model under the settings that change it, on one benchmark."""

    model: str
    axes: Mapping[str, str]
    """The swept axes, with their values, that change the model's weights or scores."""
    settings: frozenset[tuple[str, ...]]
    """The values of all axes, for every setting that the row stands for."""
    scored: ScoredModel
    """Its seeds pooled, under its label."""
    runs: Mapping[int, tuple[Cell, ScoredModel]]
    """What each seed's cell gave, in the seeds' order."""

    @property
    def draws(self) -> int:
        """How many of its runs differ in weights."""
        return len(draws_of(self.scored))

    @property
    def label(self) -> str:
        """As tables print it."""
        return self.scored.model


def pooled(cells: Sequence[Cell], uncertainty: Uncertainty) -> list[PooledRow]:
    """Each model of the cells once for each setting that changes it, seeds pooled, in the order of the cells."""
    read = [(cell, read_scored(cell)) for cell in cells]
    axes = _axes_by_model(read)
    parts: dict[tuple[str, tuple[tuple[str, str], ...], str], list[tuple[Cell, ScoredModel]]] = {}
    for cell, entries in read:
        for entry in entries:
            own = tuple((axis, cell.axes[axis]) for axis in axes[entry.model])
            parts.setdefault((entry.model, own, entry.benchmark), []).append((cell, entry))
    rows = []
    for (model, own, _), runs in parts.items():
        suffix = setting(dict(own))
        by_seed = {cell.seed: (cell, entry) for cell, entry in reversed(runs)}
        rows.append(
            PooledRow(
                model=model,
                axes=dict(own),
                settings=frozenset(tuple(cell.axes.values()) for cell, _ in runs),
                scored=pool(f"{model} ({suffix})" if suffix else model, runs, uncertainty),
                runs={seed: by_seed[seed] for seed in sorted(by_seed)},
            )
        )
    return rows


def counterpart(row: PooledRow, others: Sequence[PooledRow]) -> PooledRow | None:
    """The one of these rows that shares benchmark and settings with this row, and is another; else None."""
    found = [
        other
        for other in others
        if other is not row and other.scored.benchmark == row.scored.benchmark and other.settings & row.settings
    ]
    return found[0] if len(found) == 1 else None


def _axes_by_model(read: Sequence[tuple[Cell, Sequence[ScoredModel]]]) -> dict[str, list[str]]:
    """The swept axes that change each model: an axis does not when, with the other axes and the seed unchanged, it
    never gives other weights or other scores.
    """
    seen: dict[str, dict[int, tuple[Cell, list[object]]]] = {}
    for place, (cell, entries) in enumerate(read):
        for entry in entries:
            scores = tuple((i.metric, i.question_id, i.turn, i.value) for i in entry.items)
            _, found = seen.setdefault(entry.model, {}).setdefault(place, (cell, [cell.weights.get(entry.model)]))
            found.append(hash((entry.benchmark, scores)))
    return {model: _changing([(c, tuple(what)) for c, what in runs.values()]) for model, runs in seen.items()}


def _changing(runs: Sequence[tuple[Cell, Hashable]]) -> list[str]:
    kept = [*runs[0][0].axes]
    for axis in reversed(kept[:]):
        rest = [other for other in kept if other != axis]
        groups: dict[tuple[str, ...], list[tuple[Cell, Hashable]]] = {}
        for cell, what in runs:
            groups.setdefault(tuple(cell.axes[other] for other in rest), []).append((cell, what))
        if all(_indifferent(axis, group) for group in groups.values()):
            kept = rest
    return kept


def _indifferent(axis: str, runs: Sequence[tuple[Cell, Hashable]]) -> bool:
    """Whether runs that differ in an axis and the seed are the same for the same seed, as far as seeds can be compared:
    a value that shares no seed with another value cannot be distinguished from a change of seed.
    """
    if len({what for _, what in runs}) == 1:
        return True
    by_seed: dict[int, set[Hashable]] = {}
    seeds: dict[str, set[int]] = {}
    for cell, what in runs:
        by_seed.setdefault(cell.seed, set()).add(what)
        seeds.setdefault(cell.axes[axis], set()).add(cell.seed)
    shared = all(
        own & set().union(*(other for value, other in seeds.items() if value != name)) for name, own in seeds.items()
    )
    return (shared or len(seeds) == 1) and all(len(whats) == 1 for whats in by_seed.values())


def pool(name: str, runs: Sequence[tuple[Cell, ScoredModel]], uncertainty: Uncertainty) -> ScoredModel:
    """One model from its runs.  A model whose weights no seed changes (a given pivot) still answers once for each seed,
    so that it can be paired with those that do; its own metrics are those of one run."""
    by_seed = {cell.seed: (cell, scored) for cell, scored in reversed(runs)}
    kept = [by_seed[seed] for seed in sorted(by_seed)]
    first = kept[0][1]
    items = tuple(
        replace(item, question_id=pooled_question(item.question_id, str(cell.seed)))
        for cell, scored in kept
        for item in scored.items
    )
    keys = {str(cell.seed): cell.weights.get(scored.model) or _answers(scored) for cell, scored in kept}
    pooled_model = replace(first, model=name, items=items, judged=_judging(name, kept), runs=keys)
    if len(set(keys.values())) > 1:
        every = [scored for _, scored in kept]
        metrics = tuple(_pooled_metric(row, pooled_model, every, uncertainty) for row in first.metrics)
        return replace(pooled_model, metrics=metrics)
    return pooled_model


def _answers(scored: ScoredModel) -> str:
    """A key of what a model scored, for those that are no weights (an ensemble, the mean of the targets)."""
    said = repr([(item.metric, item.question_id, item.turn, item.value) for item in scored.items])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def pooled_mean(
    models: Sequence[ScoredModel], metric_name: str, part: str, uncertainty: Uncertainty
) -> Interval | None:
    """The mean over the items of pooled models (one, or several that are averaged over), in the unit of scores.csv.

    The interval is over runs and questions where each model has FEWEST_RUNS runs that differ in weights, a repeated
    run left out; else over questions.  None where nothing was scored.
    """
    draws = [draws_of(model) for model in models]
    crossed = all(len(own) >= FEWEST_RUNS for own in draws)
    values: list[float] = []
    runs: list[str] = []
    questions: list[str] = []
    for model, own in zip(models, draws, strict=True):
        columns = model.columns.get(metric_name) or ItemColumns.of([])
        for place in np.flatnonzero(columns.within(part) & ~np.isnan(columns.values)):
            if not crossed or columns.runs[place] in own:
                values.append(columns.values[place])
                runs.append(columns.runs[place])
                questions.append(columns.questions[place])
    if not values:
        return None
    metric = metric_of(models[0].benchmark, metric_name)
    scaled = metric.scale * np.array(values)
    if crossed and len(set(questions)) > 1 and len(set(runs)) >= FEWEST_RUNS:
        found = crossed_mean(scaled, runs, questions, confidence=uncertainty.confidence, ends=metric.ends).mean
        if found.low is not None:
            return found
    return mean_interval(scaled, questions, uncertainty, ends=metric.ends)


def _judging(name: str, runs: Sequence[tuple[Cell, ScoredModel]]) -> JudgedBy | None:
    """What judging a model took in all: weights that several runs share were judged once."""
    once = {cell.weights.get(scored.model, str(cell.seed)): scored.judged for cell, scored in runs}
    found = [judged for judged in once.values() if judged is not None]
    costs = tuple(replace(cost, model=name) for judged in found for cost in judged.costs)
    return JudgedBy(costs=costs, votes={}, notes=()) if costs else None


def _pooled_metric(
    row: MetricRow, pooled_model: ScoredModel, runs: Sequence[ScoredModel], uncertainty: Uncertainty
) -> MetricRow:
    found = pooled_mean([pooled_model], row.metric, row.slice, uncertainty)
    if found is not None:
        columns = pooled_model.columns[row.metric]
        unscored = int((columns.within(row.slice) & np.isnan(columns.values)).sum())
        return replace(
            row, value=found.value, low=found.low, high=found.high, n=found.n, unscored=unscored, reason=None
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
