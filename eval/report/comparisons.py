"""Two models on the same questions: their paired difference, whether it is chance, what could have been seen at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks import metric_of
from eval.scored import ScoredModel
from eval.scores.intervals import Bootstrap, Interval, clustered_standard_error, minimum_detectable_difference
from eval.scores.multiplicity import holm
from eval.scores.paired import Paired, paired
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
class Comparison:
    """A model less its reference over the items both were scored on, in the unit of scores.csv."""

    difference: Interval
    p: float
    """Two-sided, by the sign-flip test."""
    p_holm: float
    """The same after Holm's correction over the models compared with it."""
    smallest: float | None
    """The true difference that would be marked in 8 of 10 cases, as `would_show` has it."""

    @property
    def marked(self) -> bool:
        """Whether it is a finding among all those that it was compared with."""
        return self.p_holm <= FAMILY_LEVEL


def compared(
    pairs: Sequence[tuple[ScoredModel, ScoredModel]], metric: str, slice_name: str, bootstrap: Bootstrap
) -> list[Comparison | None]:
    """Each model compared with its reference on one benchmark; None for two without a common item.

    All of them are one family, over which p-values are corrected and whose size the smallest difference allows for.
    Pairs with items on the same questions, which is the rule, are computed together.
    """
    scale = metric_of(pairs[0][0].benchmark, metric).scale if pairs else 1.0
    families: dict[tuple[str, ...], list[tuple[int, NDArray[np.float64]]]] = {}
    for number, (first, second) in enumerate(pairs):
        questions, left, right = common(first, second, metric, slice_name)
        if questions:
            families.setdefault(questions, []).append((number, scale * (left - right)))
    results: dict[int, tuple[Paired, int]] = {}
    for questions, members in families.items():
        own = paired(np.stack([values for _, values in members]), questions, bootstrap)
        results |= {number: (one, len(set(questions))) for (number, _), one in zip(members, own, strict=True)}
    corrected = dict(zip(results, holm([result.p for result, _ in results.values()]), strict=True))
    found: list[Comparison | None] = [None] * len(pairs)
    for number, (result, count) in results.items():
        p_holm = corrected[number]
        assert p_holm is not None
        smallest = would_show(result.standard_error, count, family=len(results))
        found[number] = Comparison(difference=result.difference, p=result.p, p_holm=p_holm, smallest=smallest)
    return found


def would_show(standard_error: float | None, questions: int, *, family: int) -> float | None:
    """The smallest true difference that gets its mark in 8 of 10 cases, one of `family` comparisons with a reference.

    Its level is that of Holm's first step, FAMILY_LEVEL / `family`, so it holds whatever the others show; where some of
    them are findings too, a somewhat smaller one is marked as often.  None where nothing can be said: no spread
    between questions, or too few of them (`too_few`).
    """
    if standard_error is None or standard_error < 1e-9 or too_few(questions, family=family):
        return None
    return minimum_detectable_difference(standard_error, confidence=1 - FAMILY_LEVEL / family, questions=questions)


def too_few(questions: int, *, family: int) -> bool:
    """Whether not even a difference with the same sign on every question would be marked among `family` others."""
    return family * smallest_p(questions) > FAMILY_LEVEL


def difference(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str, bootstrap: Bootstrap
) -> Interval | None:
    """Mean of `first - second` over the items both were scored on, in the unit of scores.csv; None without any."""
    (found,) = compared([(first, second)], metric, slice_name, bootstrap)
    return found.difference if found else None


def common(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """The items of the slice that both have a value for: their questions, the values of the first, of the second."""
    own, other = first.columns.get(metric), second.columns.get(metric)
    if own is None or other is None:
        return (), np.empty(0), np.empty(0)
    values = other.at(own.places)
    kept = np.flatnonzero(own.within(slice_name) & ~np.isnan(own.values) & ~np.isnan(values))
    questions = own.questions if len(kept) == len(own.questions) else tuple(own.questions[i] for i in kept)
    return questions, own.values[kept], values[kept]


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
    of scores.csv: the median over the models compared (`would_show`); None where nothing can be said."""
    errors = paired_errors(scored, benchmark, metric, slice_name, to, reference_of)
    found = [would_show(error, questions, family=len(errors)) for error, questions in errors]
    known = [smallest for smallest in found if smallest is not None]
    return float(np.median(known)) if known else None


def paired_errors(
    scored: Sequence[ScoredModel],
    benchmark: str,
    metric: str,
    slice_name: str,
    to: str,
    reference_of: ReferenceOf | None = None,
) -> list[tuple[float | None, int]]:
    """Of every model compared with that of the role `to`: the difference's standard error, in the unit of scores.csv
    (None below two questions), and the number of its questions."""
    entries = {entry.model: entry for entry in scored if entry.benchmark == benchmark}
    scale = metric_of(benchmark, metric).scale
    reference_of = reference_of or the_one(scored)
    found: list[tuple[float | None, int]] = []
    for model, entry in entries.items():
        reference = entries.get(reference_of(model, to) or "")
        questions, left, right = common(entry, reference, metric, slice_name) if reference else ((), None, None)
        if left is not None and right is not None and questions:
            count = len(set(questions))
            error = clustered_standard_error(scale * (left - right), questions) if count > 1 else None
            found.append((error, count))
    return found
