"""What the pooled runs of a table are draws of, and what its intervals cover, in words.

A run is a draw of everything that its seed decides.  Where the seed decides the base models too, an interval over runs
speaks of base models that were never trained; where they are given, of further trainings from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.cell import Cell
from eval.report.covers import FORMULAS, Covers, over_questions
from eval.scores.crossed import FEWEST_RUNS
from eval.scores.intervals import Uncertainty

_NAMED = 4  # rows in a sentence; of more their number


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What runs are draws of: the base models, or trainings from one set of them."""

    base_models: bool

    @property
    def drawn(self) -> str:
        return "draws of the base models" if self.base_models else "trainings from the same base models"

    @property
    def name(self) -> str:
        return "draws" if self.base_models else "trainings"


def runs_of(cells: Sequence[Cell]) -> Runs:
    """The base models are drawn where no two seeds of any setting share the weights of all of them."""
    by_setting: dict[tuple[str, ...], list[tuple[tuple[str, str], ...]]] = {}
    for cell in cells:
        base = [(model, key) for model, key in sorted(cell.weights.items()) if _is_base(cell, model)]
        by_setting.setdefault(tuple(cell.axes.values()), []).append(tuple(base))
    several = [found for found in by_setting.values() if len(found) > 1]
    return Runs(base_models=bool(several) and all(len(set(found)) == len(found) for found in several))


def covers(draws: Mapping[str, int], runs: Runs, uncertainty: Uncertainty) -> Covers:
    """What a table's intervals and tests are over; `draws` are the runs of each row that differ in weights."""
    plain = over_questions(uncertainty)
    crossed = sorted({count for count in draws.values() if count >= FEWEST_RUNS})
    few = {row: count for row, count in draws.items() if count < FEWEST_RUNS}
    if not crossed:
        most = max(few.values(), default=1)
        too_few = "1 run is" if most <= 1 else f"{most} runs are"
        return Covers(
            intervals=f"over questions only: {too_few} too few to speak of further ones, which takes {FEWEST_RUNS}"
            f" ({FORMULAS})",
            tests=plain.tests,
        )
    counted = f"{crossed[0]}" if len(crossed) == 1 else f"{crossed[0]} to {crossed[-1]}"
    intervals = f"over {runs.drawn} and questions, crossed ({counted} {runs.name})"
    tests = f"Student's t test over {runs.name} and questions"
    if few:
        named = ", ".join(few) if len(few) <= _NAMED else f"{len(few)} rows"
        intervals += f"; over questions only for {named}, with fewer than {FEWEST_RUNS} {runs.name} that differ"
        tests += f", and with fewer than {FEWEST_RUNS} {runs.name} the {plain.tests[0].lower()}{plain.tests[1:]}"
    return Covers(intervals=intervals, tests=tests)


def _is_base(cell: Cell, model: str) -> bool:
    role = cell.roles.get(model) or model.split("-")[0]
    return role in ("pivot", "source")
