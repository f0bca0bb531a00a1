"""Two models on the same questions: their paired difference, whether it is chance, what could have been seen at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks import metric_of
from eval.scored import ScoredModel
from eval.scores.intervals import Bootstrap, Interval, clustered_standard_error, minimum_detectable_difference
from eval.scores.paired import paired

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
    """A model less its reference over the items both were scored on, in the unit of scores.csv, with the two-sided
    sign-flip p-value; `smallest` is the true difference that would show in 8 of 10 cases (None below two questions)."""

    difference: Interval
    p: float
    smallest: float | None


def compared(
    pairs: Sequence[tuple[ScoredModel, ScoredModel]], metric: str, slice_name: str, bootstrap: Bootstrap
) -> list[Comparison | None]:
    """Each model compared with its reference on one benchmark; None for two without a common item.

    Pairs with items on the same questions, which is the rule, are computed together.
    """
    scale = metric_of(pairs[0][0].benchmark, metric).scale if pairs else 1.0
    families: dict[tuple[str, ...], list[tuple[int, NDArray[np.float64]]]] = {}
    for number, (first, second) in enumerate(pairs):
        questions, left, right = common(first, second, metric, slice_name)
        if questions:
            families.setdefault(questions, []).append((number, scale * (left - right)))
    found: list[Comparison | None] = [None] * len(pairs)
    for questions, members in families.items():
        results = paired(np.stack([values for _, values in members]), questions, bootstrap)
        for (number, _), result in zip(members, results, strict=True):
            error = result.standard_error
            smallest = None if error is None else minimum_detectable_difference(error)
            found[number] = Comparison(difference=result.difference, p=result.p, smallest=smallest)
    return found


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
    """The smallest true difference to the model of the role `to` that the benchmark's questions could show (80% power,
    median over the models compared), in the unit of scores.csv; None when nothing can be paired."""
    entries = {entry.model: entry for entry in scored if entry.benchmark == benchmark}
    scale = metric_of(benchmark, metric).scale
    reference_of = reference_of or the_one(scored)
    found = []
    for model, entry in entries.items():
        reference = entries.get(reference_of(model, to) or "")
        questions, left, right = common(entry, reference, metric, slice_name) if reference else ((), None, None)
        if left is not None and right is not None and len(set(questions)) > 1:
            error = clustered_standard_error(scale * (left - right), questions)
            found.append(minimum_detectable_difference(error))
    return float(np.median(found)) if found else None
