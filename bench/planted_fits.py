"""Truths of what is no mean: agreement, the judge's own noise, length-controlled win rates."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from bench.planted import BAND, CLAIM, Planted, Samples, ends_of
from eval.scores import agreement as raters
from eval.scores import judge_noise, length_control
from eval.scores.agreement import Floats

_CAREFUL = "wider than it need be with so few questions"


# Agreement.

# Two raters of five grades: with this chance the second says what the first said, else anything.
SAME = 0.6


def _two_raters() -> tuple[Floats, Floats, Floats]:
    """Every pair of grades and how often it comes, as rows and weights of so many that ranks are the limit's."""
    first, second = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(5), np.arange(5)))
    return first, second, 1e9 * (SAME * (first == second) / 5 + (1 - SAME) / 25)


def _agreements(statistic: raters.Statistic, questions: int, generator: np.random.Generator, times: int) -> Samples:
    truth = float(statistic(*_two_raters()))
    first = generator.integers(0, 5, size=(times, questions, 2)).astype(float)
    other = generator.integers(0, 5, size=first.shape).astype(float)
    second = np.where(generator.random(first.shape) < SAME, first, other)
    repeated = generator.random((times, questions)) < 0.3  # turns of one question that come out alike
    for side in (first, second):
        side[..., 1] = np.where(repeated, side[..., 0], side[..., 1])
    groups = np.repeat(np.arange(questions), 2).tolist()
    for left, right in zip(first.reshape(times, -1), second.reshape(times, -1), strict=True):
        yield truth, ends_of(raters.agreement(statistic, left, right, groups, CLAIM))


def _fleiss(questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Three raters and three sides: each says the true side in 7 of 10 cases and else any."""
    says = 0.7 * np.eye(3) + 0.1
    outcomes = np.array(list(itertools.product(range(3), repeat=3)))
    chances = np.mean([np.prod(says[side][outcomes], axis=1) for side in range(3)], axis=0)
    tables = np.stack([np.sum(outcomes == side, axis=1) for side in range(3)], axis=1)
    truth = float(raters.fleiss_kappa(tables, chances))
    for drawn in generator.choice(len(outcomes), p=chances, size=(times, questions)):
        yield truth, ends_of(raters.fleiss_agreement(tables[drawn], range(questions), CLAIM))


def agreement() -> Iterator[Planted]:
    """Two raters, and three."""
    for (name, statistic), n in itertools.product(raters.STATISTICS.items(), (20, 80)):
        yield Planted(
            kind=name.replace("_", " "),
            asked=raters.agreement,
            truth="two raters of five grades, two turns",
            questions=n,
            samples=functools.partial(_agreements, statistic, n),
            band=(0.94, 0.975) if n <= 40 else BAND,
            why=_CAREFUL if n <= 40 else "",
        )
    for n in (20, 80):
        yield Planted(
            kind="Fleiss' kappa",
            asked=raters.fleiss_agreement,
            truth="three raters of three sides",
            questions=n,
            samples=functools.partial(_fleiss, n),
            band=(0.94, 0.975) if n <= 40 else BAND,
            why=_CAREFUL if n <= 40 else "",
        )


# The judge's own noise.


def _judge(noise: Sequence[float], questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Two turns a question, each asked three times; the noise is one of these, equally often."""
    values = np.array(noise)
    names = [str(question) for question in range(questions) for _ in range(2)]
    for items in generator.choice(values, size=(times, 2 * questions, 3)):
        found = judge_noise.judge_sd_interval(items.tolist(), names, CLAIM)
        yield float(np.std(values)), (None, None) if found is None else found


def noise_of_judges() -> Iterator[Planted]:
    """The standard deviation of verdicts on one answer."""
    judges = {"up to one point": (-1, 0, 0, 0, 1), "two points, one time in ten": (0,) * 9 + (2,)}
    for (name, noise), n in itertools.product(judges.items(), (10, 20, 80)):
        yield Planted(
            kind="judge's standard deviation",
            asked=judge_noise.judge_sd_interval,
            truth=name,
            questions=n,
            samples=functools.partial(_judge, noise, n),
            band=(0.94, 0.975) if n <= 40 else BAND,
            why=_CAREFUL if n <= 40 else "",
        )


# Length-controlled win rates.


def _compared(
    apart: float, slope: float, intercept: float, size: tuple[int, int], generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Length differences, `apart` standard deviations from zero on average, and preferences by the model's formula."""
    apart_by = generator.normal(apart, 1, size=size)
    chance = 1 / (1 + np.exp(-(slope * np.tanh(apart_by) + intercept)))
    return 300 * apart_by, (generator.random(size) < chance).astype(float)


def _own_set(apart: float, intercept: float, questions: int, generator: np.random.Generator, times: int) -> Samples:
    lengths, preferences = _compared(apart, -0.8, intercept, (times, questions), generator)
    truth = 1 / (1 + math.exp(-intercept))
    for difference, preference in zip(lengths, preferences, strict=True):
        try:
            found = length_control.own_set_interval(preference, 3000 - difference, np.full(questions, 3000.0))
        except length_control.LengthsHardlyOverlap:
            yield truth, (None, None)
        else:
            yield truth, ends_of(found)


def _published(questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Instructions of a difficulty drawn anew; the long and the short baselines follow the same formula."""
    slope, by_difficulty, intercept = -0.8, 1.0, -0.4
    odds = np.random.default_rng(0).normal(0, 1, size=1_000_000) * by_difficulty + intercept
    truth = float(np.mean(1 / (1 + np.exp(-odds))))
    for _ in range(times):
        difficulty = generator.normal(size=questions)
        difference = generator.normal(0.5, 1, size=questions)
        odds = slope * np.tanh(difference) + by_difficulty * difficulty + intercept
        terms = np.repeat([-0.9, 0.9], questions)
        gamed = length_control.GamedRows(
            difficulty=difficulty,
            terms=terms,
            difficulties=np.tile(difficulty, 2),
            preferences=1 / (1 + np.exp(-(slope * terms + by_difficulty * np.tile(difficulty, 2)))),
        )
        preferences = (generator.random(questions) < 1 / (1 + np.exp(-odds))).astype(float)
        baseline = np.full(questions, 3000.0)
        rate, error = length_control.published_rate_and_error(preferences, baseline - 300 * difference, baseline, gamed)
        yield truth, length_control.rate_ends(rate, error, questions - 1, CLAIM.confidence)


def length_controlled() -> Iterator[Planted]:
    """Both versions; with `own_set` lengths that overlap well, little, and hardly at all."""
    for apart, intercept, n in itertools.product((0.0, 1.0, 2.0, 3.0), (0.3, -1.0), (40, 160, 805)):
        yield Planted(
            kind="length-controlled win rate, own_set",
            asked=length_control.own_set_interval,
            truth=f"{1 / (1 + math.exp(-intercept)):.0%} at equal lengths, lengths {apart:g} deviations apart",
            questions=n,
            samples=functools.partial(_own_set, apart, intercept, n),
            band=(0.94, 0.975) if n <= 160 else BAND,
            why=_CAREFUL if n <= 160 else "",
        )
    yield Planted(
        kind="length-controlled win rate, official",
        asked=length_control.published_rate_and_error,
        truth="the package's model",
        questions=805,
        samples=functools.partial(_published, 805),
    )
