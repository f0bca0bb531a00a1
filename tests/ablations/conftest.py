"""What tests of finished cells share."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from eval.benchmarks import LMEvalHarness
from eval.ensembles import ENSEMBLES
from eval.records import ItemScore
from eval.report.tables import scores_table
from eval.report.write import items_table
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow

UNCERTAINTY = Uncertainty(seed=0)
GROUPS = {
    "pivot": "Pivot", "ensemble": "Ensembles", "sft": "Baselines", "multi": "Baselines", "target": "Targets",
}  # fmt: skip
ORACLES = {f"ensemble-{name}": rule.oracle for name, rule in ENSEMBLES.items() if rule.oracle}


@pytest.fixture(scope="session")
def rated() -> Callable[..., ScoredModel]:
    """Makes a model of one rating a question, some of them unscored, and of a second turn that nobody judged."""

    def made(model: str, group: str, ratings: list[float], *, unscored: int) -> ScoredModel:
        questions = [str(number) for number in range(len(ratings))]
        items = tuple(
            ItemScore(benchmark="mt_bench", metric="rating", question_id=q, turn=1, category="c", value=value)
            for q, value in zip(questions, ratings, strict=True)
        )
        found = mean_interval(ratings, questions, Uncertainty(seed=0))
        row = {"benchmark": "mt_bench", "metric": "rating"}
        rows = (
            MetricRow(
                **row, slice="all", value=found.value, low=found.low, high=found.high, n=found.n, unscored=unscored
            ),
            MetricRow(
                **row, slice="turn2", value=None, low=None, high=None, n=0, unscored=4, reason="the judge was silent"
            ),
        )
        return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=rows, items=items)

    return made


def scored_by_question(model: str, ratings: Sequence[float]) -> ScoredModel:
    """One rating a question, of three categories."""
    items = tuple(
        ItemScore(
            benchmark="mt_bench", metric="rating", question_id=str(i), turn=1, category="xyz"[i % 3], value=float(value)
        )
        for i, value in enumerate(ratings)
    )
    rows = []
    for part in ("all", "x", "y", "z"):
        chosen = [item for item in items if part in ("all", item.category)]
        found = mean_interval([i.value or 0 for i in chosen], [i.question_id for i in chosen], UNCERTAINTY)
        rows.append(
            MetricRow(
                benchmark="mt_bench", metric="rating", slice=part, value=found.value, low=found.low, high=found.high,
                n=found.n, unscored=0,
            )
        )  # fmt: skip
    group = GROUPS.get(model.split("-")[0], "Merged")
    return ScoredModel(
        model=model, group=group, benchmark="mt_bench", metrics=tuple(rows), items=items, oracle=ORACLES.get(model, "")
    )


def on_tasks(model: str, tasks: Mapping[str, Sequence[float]]) -> ScoredModel:
    """What lm-eval leaves: a score for each document of each task, and a row for each task."""
    items = [
        ItemScore(
            benchmark="lm_eval", metric="acc", question_id=f"{task}/{i}", turn=1, category=task, value=float(value)
        )
        for task, values in tasks.items()
        for i, value in enumerate(values)
    ]
    rows = LMEvalHarness(tasks=tuple(tasks)).metrics(items, UNCERTAINTY)
    group = GROUPS.get(model.split("-")[0], "Merged")
    return ScoredModel(model=model, group=group, benchmark="lm_eval", metrics=tuple(rows), items=tuple(items))


def written_cell(
    where: Path,
    models: Mapping[str, Sequence[float] | Mapping[str, Sequence[float]]],
    *,
    seed: int = 0,
    weights: Mapping[str, str] | None = None,
    study: str | None = None,
    **axes: str,
) -> Path:
    """A finished cell as a run leaves it; weights differ where scores do unless they are given.

    A model has ratings, or scores by lm-eval task.
    """
    name = ",".join([*(f"{axis}={value}" for axis, value in axes.items()), f"seed={seed}"])
    out = where / name
    out.mkdir(parents=True)
    entries = [
        on_tasks(model, scores) if isinstance(scores, Mapping) else scored_by_question(model, scores)
        for model, scores in models.items()
    ]
    scores_table(entries, uncertainty=UNCERTAINTY).to_csv(out / "scores.csv", index=False)
    items_table(entries).to_csv(out / "items.csv", index=False)
    (out / "leaderboard.html").write_text("<!doctype html><title>cell</title>")
    keys = {model: f"{model}-{scores}" for model, scores in models.items()}
    content = {
        "name": name, "experiment": "trial", "study": study, "seed": seed, "axes": axes,
        "weights": {**keys, **(weights or {})},
    }  # fmt: skip
    (out / "cell.json").write_text(json.dumps(content))
    return out


@pytest.fixture(scope="session")
def scored() -> Callable[..., ScoredModel]:
    """`scored(model, ratings)`"""
    return scored_by_question


@pytest.fixture(scope="session")
def cell() -> Callable[..., Path]:
    """`cell(where, models, seed=0, weights=None, study=None, **axes)` writes a finished cell below `where`."""
    return written_cell
