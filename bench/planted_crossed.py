"""Truths of means over runs and questions, both drawn anew in every sample."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.planted import CLAIM, TIMES, Planted, Samples, ends_of
from eval.scores.agreement import Floats
from eval.scores.crossed import crossed_mean

RUNS = (5, 8)
QUESTIONS = (20, 160, 645)
# By how much runs differ, beside questions.
BESIDE_QUESTIONS = {"not at all": 0.0, "a fifth as much as questions": 0.2, "as much as questions": 1.0}


@dataclass(frozen=True, kw_only=True)
class Values:
    """What is scored: a normal value `run + question + rest` around `centre(spread)`, with its standard deviation
    `spread`, as `scored` makes a score of it.  The mean score is `truth`; `band` and `why` are `Planted`'s."""

    by_question: float
    rest: float
    centre: Callable[[float], float]
    scored: Callable[[Floats], Floats]
    truth: float
    ends: tuple[float, float] | None
    band: tuple[float, float]
    why: str


def _centre_of_ratings(mean: float, spread: float) -> float:
    """Where a normal value lies on average whose rating, the nearest of 1 to 10, is `mean` on average."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    borders = np.arange(1.5, 10)
    return float(brentq(lambda centre: 10 - ndtr((borders - centre) / spread).sum() - mean, 1, 20))


def _centre_of_answers(share: float, spread: float) -> float:
    """Where a normal value lies on average that is positive with chance `share`."""
    from scipy.special import ndtri

    return float(ndtri(share)) * spread


_SKEWED = "five or eight draws near an end of a scale do not show how skewed they are"
VALUES = {
    "normal values": Values(
        by_question=1.0,
        rest=0.7,
        centre=lambda _: 6.0,
        scored=lambda values: values,
        truth=6.0,
        ends=None,
        band=(0.935, 0.965),
        why="most are of two thousand samples",
    ),
    "ratings, 9.5 on average": Values(
        by_question=0.7,
        rest=1.0,
        centre=functools.partial(_centre_of_ratings, 9.5),
        scored=lambda values: np.clip(np.rint(values), 1, 10),
        truth=9.5,
        ends=(1.0, 10.0),
        band=(0.925, 0.97),
        why=_SKEWED,
    ),
    "95% right": Values(
        by_question=0.7,
        rest=1.0,
        centre=functools.partial(_centre_of_answers, 0.95),
        scored=lambda values: (values > 0).astype(float),
        truth=0.95,
        ends=(0.0, 1.0),
        band=(0.9, 0.99),
        why=_SKEWED,
    ),
}


def _crossed(
    values: Values, runs: int, beside: float, questions: int, generator: np.random.Generator, times: int
) -> Samples:
    by_run = beside * values.by_question
    centre = values.centre(math.hypot(by_run, values.by_question, values.rest))
    run = np.repeat(np.arange(runs), questions).tolist()
    question = np.tile(np.arange(questions), runs).tolist()
    for _ in range(times):
        drawn = (
            generator.normal(centre, by_run, size=(runs, 1))
            + generator.normal(0, values.by_question, size=(1, questions))
            + generator.normal(0, values.rest, size=(runs, questions))
        )
        scored = values.scored(drawn).ravel()
        found = crossed_mean(scored, run, question, confidence=CLAIM.confidence, ends=values.ends)
        yield values.truth, ends_of(found.mean)


def crossed() -> Iterator[Planted]:
    """Means over five and eight runs, of values without ends and near one."""
    for (name, values), (differ, beside), runs, n in itertools.product(
        VALUES.items(), BESIDE_QUESTIONS.items(), RUNS, QUESTIONS
    ):
        yield Planted(
            kind=f"mean over {runs} runs and questions",
            asked=crossed_mean,
            truth=f"{name}, runs differ {differ}",
            questions=n,
            samples=functools.partial(_crossed, values, runs, beside, n),
            band=values.band,
            why=values.why,
            times=TIMES if n == 20 else 2_000,  # a table of runs and questions takes a millisecond
        )
