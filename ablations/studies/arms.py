"""The arms of a comparison: one model under one setting of the swept axes, its seeds pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ablations.cell import Cell, read_scored, setting
from ablations.studies.pooling import pool
from eval.report.comparisons import mean_model
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty

# The imaginary model that scores on every item the mean of the targets: pairwise fusion before any merge.
MEAN_OF_TARGETS = "mean of targets"


@dataclass(frozen=True, kw_only=True)
class ArmChoice:
    """An arm by its model and its setting; what is None is the arm's own."""

    model: str | None = None
    axes: Mapping[str, str] | None = None

    def fits(self, model: str, axes: Mapping[str, str]) -> bool:
        """Whether an arm of this model and setting is meant."""
        return self.model in (None, model) and all(axes.get(axis) == value for axis, value in (self.axes or {}).items())


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`axes` are the swept settings of its cells (seed apart); `scored` its pooled results by benchmark."""

    model: str
    axes: Mapping[str, str]
    scored: Mapping[str, ScoredModel]

    @property
    def label(self) -> str:
        """As tables print it: the model, and the setting where axes were swept."""
        return ", ".join(filter(None, [self.model, setting(self.axes)]))


def arms_of(cells: Sequence[Cell], uncertainty: Uncertainty) -> list[Arm]:
    """Every model of every setting, in the order of the cells, and the mean of the targets of each setting."""
    settings: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        settings.setdefault(tuple(cell.axes.items()), []).append(cell)
    found = []
    for axes, runs in settings.items():
        read = [(cell, [*scored, *_means(scored)]) for cell in runs for scored in [read_scored(cell)]]
        parts: dict[str, dict[str, list[tuple[Cell, ScoredModel]]]] = {}
        for cell, entries in read:
            for entry in entries:
                parts.setdefault(entry.model, {}).setdefault(entry.benchmark, []).append((cell, entry))
        for model, by_benchmark in parts.items():
            scored = {name: pool(model, entries, uncertainty) for name, entries in by_benchmark.items()}
            found.append(Arm(model=model, axes=dict(axes), scored=scored))
    return found


def _means(scored: Sequence[ScoredModel]) -> list[ScoredModel]:
    benchmarks = dict.fromkeys(entry.benchmark for entry in scored)
    means = [mean_model(scored, "Targets", benchmark) for benchmark in benchmarks]
    return [replace(mean, model=MEAN_OF_TARGETS) for mean in means if mean is not None]
