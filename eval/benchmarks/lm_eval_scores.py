"""What lm-eval logs per document, as item scores: which metrics count, and under which name they stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from eval.errors import HarnessFailure
from eval.records import ItemScore
from eval.scores.metric import Metric

_LESS_IS_BETTER = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"})

# Of each document 0 to 1: how far its answer is right.
_RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match", "em", "f1"})


@dataclass(frozen=True, kw_only=True)
class LMEvalTask:
    """A task or a group of tasks by its name; `num_fewshot` None: the entry's, else the task's own.

    `metrics`: those to keep, as the harness spells them (`acc_norm`, or `exact_match,strict-match` where a named filter
    made it); none named keeps all.
    """

    task: str
    num_fewshot: int | None = None
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ValueError(f"{self.task}: num_fewshot is {self.num_fewshot}: expected 0 or more, or null")


def metric_of_task(name: str) -> Metric:
    """A task's metric, which may name its filter after a comma: a mean over documents, as the harness has it."""
    plain = name.split(",")[0]
    sense: Literal[1, -1] = -1 if plain in _LESS_IS_BETTER else 1
    return Metric(name=name, unit="share", sense=sense, decimals=3, proportion=plain in _RIGHT_OR_WRONG)


def task_scores(chosen: LMEvalTask, results: Mapping[str, Any]) -> list[ItemScore]:
    """The scores of a chosen task, or of all tasks of a chosen group, as items of one category.

    Raises HarnessFailure for a metric that is no mean over documents, and for a wanted metric that is not there.
    """
    scores = []
    for task, samples in results["samples"].items():
        own = item_scores(task, samples)
        check_means(task, own, results["results"])
        scores += own
    found = dict.fromkeys(score.metric for score in scores)
    missing = [metric for metric in chosen.metrics if metric not in found]
    if missing:
        raise HarnessFailure(f"lm-eval's {chosen.task} has no metric {', '.join(missing)}: it has {', '.join(found)}")
    kept = [score for score in scores if not chosen.metrics or score.metric in chosen.metrics]
    whole = _means(chosen.task, kept, results.get("groups", {}))
    return [replace(score, category=chosen.task) if score.metric in whole else score for score in kept]


def _means(group: str, scores: Sequence[ItemScore], groups: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The metrics of which a group's own score is the mean over all its documents; of others its tasks have theirs."""
    own = groups.get(group, {})
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.metric, []).append(score.value or 0.0)
    return {
        metric
        for metric, items in values.items()
        if abs(math.fsum(items) / len(items) - float(own.get(_spelt(metric), math.nan))) < 1e-9
    }


def _spelt(metric: str) -> str:
    """A metric as the harness's results spell it: with its filter, also where that is none."""
    return metric if "," in metric else f"{metric},none"


def item_scores(task: str, samples: Sequence[Mapping[str, Any]]) -> list[ItemScore]:
    """One score per logged sample and metric; a metric of a named filter is spelled `metric,filter`."""
    scores = []
    for sample in samples:
        named = sample.get("filter", "none")
        for metric in sample.get("metrics", ()):
            value: Any = sample.get(metric)
            number = float(value) if hasattr(value, "__float__") else math.nan
            scored = math.isfinite(number)
            scores.append(
                ItemScore(
                    benchmark="lm_eval",
                    metric=metric if named == "none" else f"{metric},{named}",
                    question_id=f"{task}/{sample['doc_id']}",
                    turn=1,
                    category=task,
                    value=number if scored else None,
                    reason=None if scored else "lm-eval gives no number for this document",
                )
            )
    return scores


def check_means(task: str, scores: Sequence[ItemScore], results: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse metrics that are no mean over documents (such as perplexity): an interval of a mean would mislead."""
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.value is not None:
            values.setdefault(score.metric, []).append(score.value)
    for metric, items in values.items():
        reported = results[task].get(_spelt(metric))
        if reported is not None and abs(sum(items) / len(items) - float(reported)) > 1e-9:
            raise HarnessFailure(
                f"lm-eval's {metric} of {task} is {float(reported):g}, not the mean over its documents: this table has"
                " means only; leave the task out"
            )
