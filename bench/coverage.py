"""How often every kind of interval holds a planted truth: `python -m bench.coverage`, or `make bench ARGS=coverage`.

A case plants a truth, draws samples of it and asks the very functions that the tables ask.  Ten thousand samples tell a
coverage to within 0.4 points.  `docs/coverage.md` keeps the printed table; `tests/bench/test_coverage.py` draws fewer.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.row import BenchRow
from eval.scores import agreement as raters
from eval.scores import judge_noise, length_control, paired
from eval.scores.intervals import Bootstrap, Ends, Interval, mean_interval

TIMES = 10_000
CLAIM = Bootstrap()
# The band that an interval which claims 95% should lie in.
BAND = (0.94, 0.96)

Floats = NDArray[np.float64]
# Planted truth and the interval found, for each sample.
Samples = Iterator[tuple[float, Ends]]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A truth of one kind of interval.  `asked` is the function of `eval.scores` that a table calls; `samples` draws
    so many samples and gives the interval of each.  `band`: where its coverage lies, with the reason (`why`) where that
    is not BAND."""

    kind: str
    asked: Callable[..., object]
    truth: str
    questions: int
    samples: Callable[[np.random.Generator, int], Samples]
    band: tuple[float, float] = BAND
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.truth}, n = {self.questions}"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of the samples with an interval: the share whose interval holds the truth, and its mean width; and the share
    without one.  Both are NaN where no sample had one."""

    held: float
    width: float
    refused: float


def coverage(planted: Planted, *, times: int = TIMES) -> Coverage:
    """Draw `times` samples of a planted truth; the same ones each time."""
    held, widths = 0, []
    generator = np.random.default_rng(zlib.crc32(planted.name.encode()))
    for truth, (low, high) in planted.samples(generator, times):
        if low is not None and high is not None:
            held += low - 1e-9 <= truth <= high + 1e-9
            widths.append(high - low)
    given = len(widths)
    return Coverage(
        held=held / given if given else math.nan,
        width=float(np.mean(widths)) if given else math.nan,
        refused=1 - given / times,
    )


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
        yield float(true), _ends(found)


def _ends(found: Interval | None) -> Ends:
    return (None, None) if found is None or found.low is None or found.high is None else (found.low, found.high)


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
_CAREFUL = "wider than it need be with so few questions"


def _bounded() -> Iterator[Planted]:
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
            yield float(values @ np.array(shares)), _ends(found.difference)


DIFFERENCES = {
    "ratings up to 3 apart": ((-3, -2, -1, 0, 1, 2, 3), (0.05, 0.1, 0.2, 0.2, 0.25, 0.15, 0.05)),
    "6 of 10 comparisons alike": ((-1, 0, 1), (0.15, 0.6, 0.25)),
    "half won, hardly any lost": ((-1, 0, 1), (0.02, 0.5, 0.48)),
    "one answer in ten loses 9 points": ((-9, 0, 1), (0.1, 0.7, 0.2)),
}


def _unbounded() -> Iterator[Planted]:
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
        yield truth, _ends(raters.agreement(statistic, left, right, groups, CLAIM))


def _fleiss(questions: int, generator: np.random.Generator, times: int) -> Samples:
    """Three raters and three sides: each says the true side in 7 of 10 cases and else any."""
    says = 0.7 * np.eye(3) + 0.1
    outcomes = np.array(list(itertools.product(range(3), repeat=3)))
    chances = np.mean([np.prod(says[side][outcomes], axis=1) for side in range(3)], axis=0)
    tables = np.stack([np.sum(outcomes == side, axis=1) for side in range(3)], axis=1)
    truth = float(raters.fleiss_kappa(tables, chances))
    for drawn in generator.choice(len(outcomes), p=chances, size=(times, questions)):
        yield truth, _ends(raters.fleiss_agreement(tables[drawn], range(questions), CLAIM))


def _agreement() -> Iterator[Planted]:
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


def _noise() -> Iterator[Planted]:
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
            yield truth, _ends(found)


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


def _length_controlled() -> Iterator[Planted]:
    for apart, intercept, n in itertools.product((0.0, 1.0, 2.0, 3.0), (0.3, -1.0), (40, 160)):
        yield Planted(
            kind="length-controlled win rate, own_set",
            asked=length_control.own_set_interval,
            truth=f"{1 / (1 + math.exp(-intercept)):.0%} at equal lengths, lengths {apart:g} deviations apart",
            questions=n,
            samples=functools.partial(_own_set, apart, intercept, n),
            band=(0.94, 0.975) if n <= 40 else BAND,
            why=_CAREFUL if n <= 40 else "",
        )
    yield Planted(
        kind="length-controlled win rate, official",
        asked=length_control.published_rate_and_error,
        truth="the package's model",
        questions=805,
        samples=functools.partial(_published, 805),
    )


PLANTED: tuple[Planted, ...] = (
    *_bounded(),
    *_unbounded(),
    *_agreement(),
    *_noise(),
    *_length_controlled(),
)


def rows() -> list[BenchRow]:
    """Every planted truth beside the band it should lie in."""
    found = []
    for planted in PLANTED:
        one = coverage(planted)
        low, high = planted.band
        reached = None if math.isnan(one.held) else round(low, 3) <= round(one.held, 3) <= round(high, 3)
        found.append(
            BenchRow(what=planted.name, measured=_spelled(one), bar=f"{low:.0%} to {high:.0%}", reached=reached)
        )
    return found


def _spelled(one: Coverage) -> str:
    if math.isnan(one.held):
        return "none given"
    return f"{one.held:.1%}, width {one.width:.3g}" + (f", {one.refused:.1%} without" if one.refused else "")


def main() -> None:
    """Print the Markdown table of docs/coverage.md."""
    print("| interval | truth | n | coverage % | mean width | without % |\n|---|---|---|---|---|---|")
    for planted in PLANTED:
        one = coverage(planted)
        held = "—" if math.isnan(one.held) else f"{100 * one.held:.1f}"
        width = "—" if math.isnan(one.width) else f"{one.width:.3g}"
        print(
            f"| {planted.kind} | {planted.truth} | {planted.questions} | {held} | {width} | {100 * one.refused:.1f} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
