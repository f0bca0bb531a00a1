"""Two models on the same questions: their paired difference, whether it is chance, what could have been seen at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from eval.records import ItemScore
from eval.scored import ScoredModel, question_of
from eval.scores.intervals import (
    Bootstrap,
    Interval,
    clustered_standard_error,
    minimum_detectable_difference,
    paired_difference,
)
from eval.scores.sign_flip import sign_flip_p

PERCENT_METRICS = frozenset(
    {
        "win_rate",
        "discrete_win_rate",
        "length_controlled_win_rate",
        "standard_error",
        "pairwise_win_rate",
        "position_consistency",
        "first_position_bias",
    }
)


# The row that another is compared with when it is compared with "pivot" or "sft"; None: with none.
ReferenceOf = Callable[[str, str], str | None]


def named(model: str, other: str) -> str | None:
    """A reference that is the same for all models: the one of that name."""
    return None if other == model else other


def difference(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str, bootstrap: Bootstrap
) -> Interval | None:
    """Mean of `first - second` over the items both were scored on, in the unit of scores.csv; None without any."""
    pairs = paired_items(first, second, metric, slice_name)
    if not pairs:
        return None
    scale = 100.0 if metric in PERCENT_METRICS else 1.0
    left, right = (scale * np.array([pair[side] for pair in pairs]) for side in (1, 2))
    return paired_difference(left, right, [pair[0] for pair in pairs], bootstrap)


def p_value(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str, bootstrap: Bootstrap
) -> float | None:
    """Two-sided sign-flip p-value of the paired difference, questions flipped whole; None without any pair."""
    pairs = paired_items(first, second, metric, slice_name)
    if not pairs:
        return None
    return sign_flip_p([pair[1] - pair[2] for pair in pairs], [pair[0] for pair in pairs], seed=bootstrap.seed)


def paired_items(
    first: ScoredModel, second: ScoredModel, metric: str, slice_name: str
) -> list[tuple[str, float, float]]:
    """(question, value of first, value of second) for every item of the slice that both have a value for."""
    others = {(item.question_id, item.turn): item.value for item in second.items if item.metric == metric}
    pairs = []
    for item in first.items:
        other = others.get((item.question_id, item.turn))
        if item.metric == metric and item.value is not None and other is not None and in_slice(item, slice_name):
            pairs.append((question_of(item.question_id), item.value, other))
    return pairs


def in_slice(item: ItemScore, slice_name: str) -> bool:
    """Whether an item belongs to `all`, `turn1`, `turn2` or a category."""
    if slice_name == "all":
        return True
    if slice_name in ("turn1", "turn2"):
        return item.turn == int(slice_name[-1])
    return item.category == slice_name


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
    return replace(entries[0], model=f"mean of {group.lower()}", metrics=(), items=items)


def smallest_difference(
    scored: Sequence[ScoredModel],
    benchmark: str,
    metric: str,
    slice_name: str,
    to: str,
    reference_of: ReferenceOf = named,
) -> float | None:
    """The smallest true difference to the model `to` that the benchmark's questions could show (80% power, median
    over the models compared), in the unit of scores.csv; None when nothing can be paired."""
    entries = {entry.model: entry for entry in scored if entry.benchmark == benchmark}
    found = []
    for model, entry in entries.items():
        reference = entries.get(reference_of(model, to) or "")
        smallest = None if reference is None else detectable(entry, reference, metric, slice_name)
        if smallest is not None:
            found.append(smallest)
    return float(np.median(found)) if found else None


def detectable(first: ScoredModel, second: ScoredModel, metric: str, slice_name: str) -> float | None:
    """The smallest true difference between two models that would show in 8 of 10 cases, in the unit of scores.csv;
    None below two questions."""
    pairs = paired_items(first, second, metric, slice_name)
    groups = [pair[0] for pair in pairs]
    if len(set(groups)) < 2:
        return None
    error = clustered_standard_error([pair[1] - pair[2] for pair in pairs], groups)
    return (100.0 if metric in PERCENT_METRICS else 1.0) * minimum_detectable_difference(error)
