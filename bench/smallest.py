"""How often the difference that a table calls the smallest it would mark gets its mark: `python -m bench.smallest`.

Models with the reference's ratings and noise are compared with it by `eval.report.comparisons.compared`, as a table
does.  One of them is truly better by the smallest difference that the run before has printed.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import numpy as np

from bench.row import BenchRow
from eval.records import ItemScore
from eval.report.comparisons import compared
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty

RUNS = 2_000
# Three standard errors of a share of 80% of so many runs to both sides.
BAND = (0.773, 0.827)
# The first run plants what the known noise would need, about.
_FIRST = 0.5


@dataclass(frozen=True, kw_only=True)
class Family:
    """So many models compared with one reference on so many questions."""

    models: int
    questions: int


FAMILIES = tuple(Family(models=k, questions=n) for n, k in itertools.product((20, 160), (1, 4, 12)))


def marked(family: Family, *, runs: int = RUNS) -> float:
    """The share of runs that mark a true difference of the size printed."""
    generator = np.random.default_rng(zlib.crc32(repr(family).encode()))
    planted, found = _FIRST, 0
    for run in range(-1, runs):
        reference = generator.normal(6, 1, size=family.questions)
        noise = generator.normal(size=(family.models, family.questions))
        noise[0] += planted
        pivot = _model("pivot", reference)
        pairs = [(_model(f"m{number}", reference + more), pivot) for number, more in enumerate(noise)]
        better = compared(pairs, "rating", "all", Uncertainty(seed=max(0, run)))[0]
        assert better is not None and better.smallest is not None
        found += better.marked and run >= 0
        planted = better.smallest
    return found / runs


def _model(name: str, ratings: np.ndarray) -> ScoredModel:
    items = tuple(
        ItemScore(benchmark="mt_bench", metric="rating", question_id=str(i), turn=1, category="c", value=float(value))
        for i, value in enumerate(ratings)
    )
    return ScoredModel(model=name, group="Merged", benchmark="mt_bench", metrics=(), items=items)


def rows() -> list[BenchRow]:
    """The share marked of every family beside the 80% that the tables state."""
    found = []
    for family in FAMILIES:
        share = marked(family)
        found.append(
            BenchRow(
                what=f"smallest difference marked: {family.models} compared on {family.questions} questions",
                measured=f"{share:.1%} of {RUNS:,} runs",
                bar=f"{BAND[0]:.1%} to {BAND[1]:.1%}",
                reached=BAND[0] <= share <= BAND[1],
            )
        )
    return found


def main() -> None:
    """Print the Markdown table of docs/coverage.md."""
    print("| compared | questions | marked % |\n|---|---|---|")
    for family in FAMILIES:
        print(f"| {family.models} | {family.questions} | {100 * marked(family):.1f} |", flush=True)


if __name__ == "__main__":
    main()
