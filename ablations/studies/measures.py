"""What studies and reports compare models by: one measure of each judged benchmark, every task of an lm-eval entry."""

from __future__ import annotations

from collections.abc import Iterable

from eval.benchmarks import judged
from eval.report.tables import Heading
from eval.scored import ScoredModel


def where(benchmark: str, part: str) -> str:
    """A slice as tables name it: the benchmark, and the task or category where it is of one."""
    return benchmark if part == "all" else f"{benchmark} {part}"


def measures_of(scored: Iterable[ScoredModel]) -> list[Heading]:
    """The first column of a judged benchmark's primary metric; elsewhere each metric of each task that is a
    mean over items of which more is better.  In the order in which the models have them."""
    found: dict[Heading, None] = {}
    for entry in scored:
        known = judged(entry.benchmark)
        if known is not None:
            places = [(known.primary.name, *known.primary.shown[0])]
        else:
            places = [(row.metric, row.slice, f"{row.slice} {row.metric}") for row in entry.metrics]
        for metric, part, title in places:
            measure = Heading(benchmark=entry.benchmark, metric=metric, slice=part, title=title)
            if measure.ranked and metric in entry.columns:
                found[measure] = None
    return [*found]
