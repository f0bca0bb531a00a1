"""Two models on the same questions: their paired difference, whether it is chance, what could have been seen at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks import metric_of
from eval.scored import ScoredModel, draws_of
from eval.scores.crossed import FEWEST_RUNS, CrossedMean, crossed_mean, smallest_marked
from eval.scores.intervals import Interval, Uncertainty, clustered_standard_error
from eval.scores.multiplicity import holm
from eval.scores.paired import paired
from eval.scores.sign_flip import smallest_p

# The chance of marking any difference of a family that is none.
FAMILY_LEVEL = 0.05

# The model that another is compared with when it is compared with the "pivot" or "sft"; None: with none.
ReferenceOf = Callable[[str, str], str | None]


def the_one(scored: Sequence[ScoredModel]) -> ReferenceOf:
    """A reference that is the same for all models: the one of that role; none for itself or of several."""
    models: dict[str, dict[str, None]] = {}
    for entry in scored:
        models.setdefault(entry.role, {})[entry.model] = None

    def reference(model: str, role: str) -> str | None:
        found = [*models.get(role, ())]
        return found[0] if len(found) == 1 and found != [model] else None

    return reference


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What a difference was estimated from: how many questions, how many runs that differ in weights (0: one run), the
    standard error in the unit of scores.csv (None where there is none), and its degrees of freedom where it is over
    runs and questions, None where it is over questions only."""

    questions: int
    draws: int
    standard_error: float | None
    degrees: float | None

    @property
    def crossed(self) -> bool:
        """Whether interval and test are over draws and questions, so that they speak of further draws."""
        return self.degrees is not None

    @property
    def over(self) -> Literal["draws and questions", "questions"]:
        """What interval and test are over, as tables of numbers say it."""
        return "draws and questions" if self.crossed else "questions"


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A model less its reference over the items both were scored on, in the unit of scores.csv, taken by itself."""

    difference: Interval
    p: float
    """Two-sided: by the t test over runs and questions, or the sign-flip test over questions."""
    sampled: Sampled


@dataclass(frozen=True, kw_only=True)
class Comparison(Tested):
    """The same as one of a family of comparisons."""

    p_holm: float
    """After Holm's correction over the family."""
    smallest: float | None
    """The true difference that would be marked in 8 of 10 cases, as `would_mark` has it."""
    family: int
    """How many comparisons were corrected together."""

    @property
    def marked(self) -> bool:
        """Whether it is a finding among all those that it was compared with."""
        return self.p_holm <= FAMILY_LEVEL


def compared(
    pairs: Sequence[tuple[ScoredModel, ScoredModel]], metric: str, slice_name: str, uncertainty: Uncertainty
) -> list[Comparison | None]:
    """`tested` and `corrected`: each model compared with its reference, all of them one family."""
    found = tested(pairs, metric, slice_name, uncertainty)
    family = iter(corrected([one for one in found if one is not None]))
    return [None if one is None else next(family) for one in found]


def tested(
    pairs: Sequence[tuple[ScoredModel, ScoredModel]], metric: str, slice_name: str, uncertainty: Uncertainty
) -> list[Tested | None]:
    """Each model less its reference on one benchmark; None for two without a common item.

    Over runs and questions where the two share FEWEST_RUNS runs that differ in weights, a repeated run left out; else
    over questions.  Pairs with items on the same questions, which is the rule, are computed together.
    """
    scale = metric_of(pairs[0][0].benchmark, metric).scale if pairs else 1.0
    found: list[Tested | None] = [None] * len(pairs)
    by_questions: dict[tuple[str, ...], list[tuple[int, Common]]] = {}
    for number, (first, second) in enumerate(pairs):
        shared = common(first, second, metric, slice_name)
        if not shared.questions:
            continue
        over_runs = _over_runs(shared, scale, uncertainty.confidence)
        if over_runs is None:
            by_questions.setdefault(shared.questions, []).append((number, shared))
        else:
            found[number] = Tested(difference=over_runs.mean, p=over_runs.p, sampled=_sampled(over_runs))
    for questions, members in by_questions.items():
        differences = np.stack([scale * (shared.first - shared.second) for _, shared in members])
        for (number, shared), one in zip(members, paired(differences, questions, uncertainty), strict=True):
            found[number] = Tested(
                difference=one.difference, p=one.p, sampled=_over_questions(shared, one.standard_error)
            )
    return found


def corrected(found: Sequence[Tested]) -> list[Comparison]:
    """These as one family: p-values after Holm's correction over all, and what each would have marked in it."""
    ps = holm([one.p for one in found])
    return [
        Comparison(
            difference=one.difference,
            p=one.p,
            sampled=one.sampled,
            p_holm=p,
            smallest=would_mark(one.sampled, family=len(found)),
            family=len(found),
        )
        for one, p in zip(found, ps, strict=True)
        if p is not None
    ]


def would_mark(sampled: Sampled, *, family: int) -> float | None:
    """The smallest true difference that gets its mark in 8 of 10 cases, one of `family` comparisons: `smallest_marked`
    at Holm's first step over runs and questions, `would_show` over questions only."""
    if sampled.degrees is None:
        return would_show(sampled.standard_error, sampled.questions, family=family)
    if not sampled.standard_error:
        return None
    return smallest_marked(sampled.standard_error, sampled.degrees, level=FAMILY_LEVEL / family)


def _over_runs(shared: Common, scale: float, confidence: float = 0.95) -> CrossedMean | None:
    """The mean difference over runs and questions; None where there are too few of either."""
    chosen = [place for place, run in enumerate(shared.runs) if run in shared.draws]
    questions = [shared.questions[place] for place in chosen]
    if len(shared.draws) < FEWEST_RUNS or len(set(questions)) < 2:
        return None
    differences = scale * (shared.first - shared.second)[chosen]
    return crossed_mean(differences, [shared.runs[place] for place in chosen], questions, confidence=confidence)


def _sampled(found: CrossedMean) -> Sampled:
    return Sampled(
        questions=found.questions, draws=found.runs, standard_error=found.standard_error, degrees=found.degrees
    )


def _over_questions(shared: Common, standard_error: float | None) -> Sampled:
    return Sampled(
        questions=len(set(shared.questions)), draws=len(shared.draws), standard_error=standard_error, degrees=None
    )


def would_show(standard_error: float | None, questions: int, *, family: int) -> float | None:
    """The smallest true difference that gets its mark in 8 of 10 cases, one of `family` comparisons with a reference.

    Its level is that of Holm's first step, FAMILY_LEVEL / `family`, so it holds whatever the others show; where some of
    them are findings too, a somewhat smaller one is marked as often.  None where nothing can be said: no spread
    between questions, or too few of them (`too_few`).
    """
    if standard_error is None or standard_error < 1e-9 or too_few(questions, family=family):
        return None
    return smallest_marked(standard_error, questions - 1, level=FAMILY_LEVEL / family)


def too_few(questions: int, *, family: int) -> bool:
    """Whether not even a difference with the same sign on every question would be marked among `family` others."""
    return family * smallest_p(questions) > FAMILY_LEVEL


def difference(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str, uncertainty: Uncertainty
) -> Interval | None:
    """Mean of `first - second` over the items both were scored on, in the unit of scores.csv; None without any."""
    (found,) = compared([(first, second)], metric, slice_name, uncertainty)
    return found.difference if found else None


@dataclass(frozen=True, kw_only=True)
class Common:
    """Items that two models both have a value for: question and run of each (of a single run ""), and both values;
    `draws` are the runs among them that differ in the weights of either model."""

    questions: tuple[str, ...]
    runs: tuple[str, ...]
    draws: frozenset[str]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def common(first: ScoredModel, second: ScoredModel, metric: str, slice_name: str) -> Common:
    """The items of the slice that both have a value for."""
    own, other = first.columns.get(metric), second.columns.get(metric)
    if own is None or other is None:
        return Common(questions=(), runs=(), draws=frozenset(), first=np.empty(0), second=np.empty(0))
    values = other.at(own.places)
    kept = np.flatnonzero(own.within(slice_name) & ~np.isnan(own.values) & ~np.isnan(values))
    questions = own.questions if len(kept) == len(own.questions) else tuple(own.questions[i] for i in kept)
    runs = tuple(own.runs[i] for i in kept) if first.runs else ("",) * len(kept)
    draws = frozenset(draws_of(first, second)) & {*runs}
    return Common(questions=questions, runs=runs, draws=draws, first=own.values[kept], second=values[kept])


def mean_model(scored: Sequence[ScoredModel], group: str, benchmark: str) -> ScoredModel | None:
    """An imaginary model that scores on every item the mean of a group's models; None when the group has no model.

    Items that not all of them were scored on are left out.
    """
    entries = [entry for entry in scored if entry.group == group and entry.benchmark == benchmark]
    if not entries:
        return None
    values: dict[tuple[str, str, int], list[float]] = {}
    for entry in entries:
        for item in entry.items:
            if item.value is not None:
                values.setdefault((item.metric, item.question_id, item.turn), []).append(item.value)
    items = tuple(
        replace(item, value=float(np.mean(found)), reason=None)
        for item in entries[0].items
        if len(found := values.get((item.metric, item.question_id, item.turn), [])) == len(entries)
    )
    name = f"mean of {group.lower()}"
    return replace(entries[0], model=name, row=name, role="", metrics=(), items=items)


def smallest_difference(
    scored: Sequence[ScoredModel],
    benchmark: str,
    metric: str,
    slice_name: str,
    to: str,
    reference_of: ReferenceOf | None = None,
) -> float | None:
    """The smallest true difference to the model of the role `to` that the benchmark's questions would mark, in the unit
    of scores.csv: the median over the models compared (`would_mark`); None where nothing can be said."""
    samples = paired_samples(scored, benchmark, metric, slice_name, to, reference_of)
    found = [would_mark(sampled, family=len(samples)) for sampled in samples]
    known = [smallest for smallest in found if smallest is not None]
    return float(np.median(known)) if known else None


def paired_samples(
    scored: Sequence[ScoredModel],
    benchmark: str,
    metric: str,
    slice_name: str,
    to: str,
    reference_of: ReferenceOf | None = None,
) -> list[Sampled]:
    """Of every model compared with that of the role `to`, what the difference was estimated from."""
    entries = {entry.model: entry for entry in scored if entry.benchmark == benchmark}
    scale = metric_of(benchmark, metric).scale
    reference_of = reference_of or the_one(scored)
    found = []
    for model, entry in entries.items():
        reference = entries.get(reference_of(model, to) or "")
        if reference is None:
            continue
        shared = common(entry, reference, metric, slice_name)
        over_runs = _over_runs(shared, scale)
        if over_runs is not None:
            found.append(_sampled(over_runs))
        elif shared.questions:
            several = len(set(shared.questions)) > 1
            differences = scale * (shared.first - shared.second)
            error = clustered_standard_error(differences, shared.questions) if several else None
            found.append(_over_questions(shared, error))
    return found
