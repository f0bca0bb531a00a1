"""Truths of means: ratings, shares and win rates between their ends, lengths, paired differences."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench.planted import BAND, CLAIM, Planted, Samples, ends_of
from eval.scores import paired
from eval.scores.agreement import Floats
from eval.scores.intervals import mean_interval

# Means between known ends.

# Shares of the ratings 1 to 10: a pocket model that is mostly right, GPT-4 on a good chat model, a model near the top.
RATINGS = {
    "8 of 10 ratings are 10": np.array([0.2 / 9] * 9 + [0.8]),
    "19 of 20 ratings are 10": np.array([0.05 / 9] * 9 + [0.95]),
    "GPT-4's ratings of a chat model": np.array([2, 2, 3, 4, 6, 7, 10, 25, 30, 11]) / 100,
    "every rating equally often": np.full(10, 0.1),
}


def _turns(draw: Callable[[tuple[int, ...]], Floats], generator: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Two turns a question, [..., 2]: the second repeats the first half of the time."""
    first, second = draw(shape), draw(shape)
    return np.stack([first, np.where(generator.random(shape) < 0.5, first, second)], axis=-1)


def _means(values: Floats, truth: float | Floats, ends: tuple[float, float] | None) -> Samples:
    """The intervals of samples [times, questions, turns]."""
    times, questions, turns = values.shape
    groups = np.repeat(np.arange(questions), turns).tolist()
    for sample, true in zip(values.reshape(times, -1), np.broadcast_to(truth, times), strict=True):
        found = mean_interval(sample, groups, CLAIM, ends=ends)
        yield float(true), ends_of(found)


def _rated(shares: Floats, questions: int, generator: np.random.Generator, times: int) -> Samples:
    scale = np.arange(1.0, 11.0)
    values = _turns(lambda shape: generator.choice(scale, p=shares, size=shape), generator, (times, questions))
    return _means(values, float(scale @ shares), (1.0, 10.0))


def _right(share: float | None, questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Right or wrong; without a share it is another one in every sample, from half to all."""
    truth = generator.uniform(0.5, 1.0, size=times) if share is None else np.full(times, share)
    return _means((generator.random((times, questions)) < truth[:, None]).astype(float)[..., None], truth, (0.0, 1.0))


def _right_twice(share: float, questions: int, generator: np.random.Generator, times: int) -> Samples:
    values = _turns(lambda shape: (generator.random(shape) < share).astype(float), generator, (times, questions))
    return _means(values, share, (0.0, 1.0))


def _games(shares: Sequence[float], questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Lost, drawn, won, in percent."""
    outcomes = np.array([0.0, 50.0, 100.0])
    values = generator.choice(outcomes, p=shares, size=(times, questions))
    return _means(values[..., None], float(outcomes @ np.array(shares)), (0.0, 100.0))


def _preferences(a: float, b: float, questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Weighted preferences: most near 0 or 1."""
    return _means(generator.beta(a, b, size=(times, questions))[..., None], a / (a + b), (0.0, 1.0))


def _bias(questions: int, generator: np.random.Generator, times: int) -> Samples:
    shares = [0.05, 0.75, 0.2]
    values = generator.choice([-0.5, 0.0, 0.5], p=shares, size=(times, questions))
    return _means(values[..., None], 0.075, (-0.5, 0.5))


_STEPS = "few answers have few outcomes, and an interval of any kind goes by their steps"
_UNSEEN = "rare low values are often not in so small a sample; the interval allows for them and is wide"
_SKEWED = "rare values far out are often not in so small a sample, and nothing bounds how far out"


def between_ends() -> Iterator[Planted]:
    """Ratings, shares, win rates, biases."""
    for (name, shares), n in itertools.product(RATINGS.items(), (10, 20, 80, 160)):
        few = n <= 20 or (n == 80 and shares[-1] > 0.9)
        yield Planted(
            kind="mean rating, two turns",
            asked=mean_interval,
            truth=name,
            questions=n,
            samples=functools.partial(_rated, shares, n),
            band=(0.93, 0.98) if few else BAND,
            why=_UNSEEN if few else "",
        )
    for share, n in itertools.product((0.5, 0.8, 0.95, 0.98), (10, 20, 160, 645)):
        yield _share("share right", f"{share:g} right", n, functools.partial(_right, share, n))
    for n in (10, 20, 160):
        yield _share("share right", "from half to all, another in each sample", n, functools.partial(_right, None, n))
        yield _share("share right, two turns", "0.9 right", n, functools.partial(_right_twice, 0.9, n))
        yield _share("win rate", "30% lost, 40% drawn", n, functools.partial(_games, (0.3, 0.4, 0.3), n))
        yield _share("win rate", "5% lost, 20% drawn", n, functools.partial(_games, (0.05, 0.2, 0.75), n))
        yield _share("win rate, weighted", "preferences beta(.3, .3)", n, functools.partial(_preferences, 0.3, 0.3, n))
        yield _share("position bias", "75% of pairs without", n, functools.partial(_bias, n))


def _share(kind: str, truth: str, questions: int, samples: Callable[[np.random.Generator, int], Samples]) -> Planted:
    few = questions <= 20
    return Planted(
        kind=kind,
        asked=mean_interval,
        truth=truth,
        questions=questions,
        samples=samples,
        band=(0.91, 0.99) if few else BAND,
        why=_STEPS if few else "",
    )


# Means without known ends.


def _lengths(questions: int, generator: np.random.Generator, times: int) -> Samples:
    values = 1500 * np.exp(generator.normal(0, 0.5, size=(times, questions)))
    return _means(values[..., None], 1500 * math.exp(0.125), None)


def _differences(
    sizes: Sequence[float], shares: Sequence[float], questions: int, generator: np.random.Generator, times: int
) -> Samples:
    values = np.array(sizes, dtype=float)
    draws = _turns(lambda shape: generator.choice(values, p=shares, size=shape), generator, (times, questions))
    groups = np.repeat(np.arange(questions), 2).tolist()
    for part in np.array_split(draws.reshape(times, -1), math.ceil(times / 500)):
        for found in paired.paired(part, groups, CLAIM):
            yield float(values @ np.array(shares)), ends_of(found.difference)


DIFFERENCES = {
    "ratings up to 3 apart": ((-3, -2, -1, 0, 1, 2, 3), (0.05, 0.1, 0.2, 0.2, 0.25, 0.15, 0.05)),
    "6 of 10 comparisons alike": ((-1, 0, 1), (0.15, 0.6, 0.25)),
    "half won, hardly any lost": ((-1, 0, 1), (0.02, 0.5, 0.48)),
    "one answer in ten loses 9 points": ((-9, 0, 1), (0.1, 0.7, 0.2)),
}


def without_ends() -> Iterator[Planted]:
    """Lengths and paired differences."""
    for n in (20, 80, 805):
        samples = functools.partial(_lengths, n)
        yield Planted(
            kind="mean length",
            asked=mean_interval,
            truth="log-normal",
            questions=n,
            samples=samples,
            band=(0.92, 0.96) if n <= 80 else BAND,
            why=_SKEWED if n <= 80 else "",
        )
    for (name, (sizes, shares)), n in itertools.product(DIFFERENCES.items(), (10, 20, 160)):
        yield Planted(
            kind="paired difference, two turns",
            asked=paired.paired,
            truth=name,
            questions=n,
            samples=functools.partial(_differences, sizes, shares, n),
            band=(0.77, 0.96) if min(sizes) == -9 and n <= 20 else BAND,
            why=_SKEWED if min(sizes) == -9 and n <= 20 else "",
        )
