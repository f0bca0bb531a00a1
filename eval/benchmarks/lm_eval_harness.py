"""lm-eval tasks through the harness's Python API, against the server that is already running or in process.

The harness asks, parses and scores; here its logged samples become item scores, so that its metrics get the same
intervals and paired differences as every other.  Its answer cache is never used: the key leaves the model out, so a
second checkpoint would be given the first one's answers (lm-evaluation-harness issue 4063).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from eval.benchmarks.protocol import find
from eval.errors import HarnessFailure
from eval.records import ItemScore
from eval.scores.intervals import Bootstrap, mean_interval
from eval.scores.metric_row import MetricRow
from eval.serve.server import Endpoint


@dataclass(frozen=True, kw_only=True)
class LMEvalHarness:
    """Settings of one lm-eval entry.

    `task_folder`: a folder of task YAMLs, relative to `paths.data`; None: the package's own tasks (which fetch their
    data from the hub).  `backend`: `server` asks the running endpoint for token log-probabilities, `hf` loads the
    checkpoint in this process.
    """

    name: ClassVar[str] = "lm_eval"
    needs_judge: ClassVar[bool] = False

    tasks: tuple[str, ...]
    task_folder: str | None = None
    backend: Literal["server", "hf"] = "server"
    num_fewshot: int | None = None
    limit: int | None = None
    apply_chat_template: bool = False
    concurrency: int = 4
    batch_size: int = 1
    max_length: int = 2048
    seed: int = 1234

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one lm-eval task")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}: expected at least 1, or null for every document")
        if self.concurrency < 1 or self.batch_size < 1:
            raise ValueError("concurrency and batch_size must be at least 1")

    def measure(
        self,
        *,
        checkpoint: Path,
        data: Path,
        endpoint: Endpoint | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        offline: bool = True,
    ) -> list[ItemScore]:
        """Run the tasks; one score per document and metric, the task's name as category.

        `checkpoint` gives the tokenizer (and, for `hf`, the weights).  Raises HarnessFailure when the harness fails.
        """
        if self.backend == "server" and endpoint is None:
            raise HarnessFailure("lm-eval's backend 'server' needs the endpoint of a running server")
        folder = find(self.task_folder, data, what="the folder of lm-eval tasks")
        with _environment(key=endpoint.key if endpoint else None, offline=offline):
            results = self._evaluate(checkpoint, folder, endpoint, device, dtype)
        scores = [score for task, samples in results["samples"].items() for score in item_scores(task, samples)]
        _check_means(scores, results["results"])
        return scores

    def metrics(self, scores: Sequence[ItemScore], bootstrap: Bootstrap) -> list[MetricRow]:
        """The mean of every metric of every task, in the harness's scale (accuracies 0 to 1); the slice is the task."""
        cells: dict[tuple[str, str], list[ItemScore]] = {}
        for score in scores:
            cells.setdefault((score.metric, score.category), []).append(score)
        rows = []
        for (metric, task), items in cells.items():
            values = [item.value for item in items if item.value is not None]
            row = MetricRow(
                benchmark=self.name,
                metric=metric,
                slice=task,
                value=None,
                n=len(values),
                unscored=len(items) - len(values),
                reason="nothing was scored",
            )
            if values:
                found = mean_interval(values, range(len(values)), bootstrap)
                row = replace(row, value=found.value, low=found.low, high=found.high, reason=None)
            rows.append(row)
        return rows

    def _evaluate(
        self, checkpoint: Path, folder: Path | None, endpoint: Endpoint | None, device: str, dtype: str
    ) -> Mapping[str, Any]:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        if endpoint is not None and self.backend == "server":
            model = "local-completions"
            arguments: dict[str, Any] = {
                "model": endpoint.model,
                "base_url": f"{endpoint.base_url.rstrip('/')}/completions",
                "tokenizer": str(checkpoint),
                "tokenizer_backend": "huggingface",
                "num_concurrent": self.concurrency,
                "max_length": self.max_length,
            }
        else:
            model = "hf"
            arguments = {"pretrained": str(checkpoint), "device": device, "dtype": dtype, "max_length": self.max_length}
        try:
            manager = TaskManager(include_path=str(folder) if folder else None, include_defaults=folder is None)
            unknown = [task for task in self.tasks if task not in manager.all_tasks]
            if unknown:
                raise HarnessFailure(
                    f"lm-eval knows no task {', '.join(unknown)}: found {', '.join(sorted(manager.all_tasks)[:10])}"
                )
            results = simple_evaluate(
                model=model,
                model_args=arguments,
                tasks=list(self.tasks),
                task_manager=manager,
                num_fewshot=self.num_fewshot,
                limit=self.limit,
                batch_size=self.batch_size,
                apply_chat_template=self.apply_chat_template,
                log_samples=True,
                bootstrap_iters=0,
                use_cache=None,
                random_seed=self.seed,
                numpy_random_seed=self.seed,
                torch_random_seed=self.seed,
                fewshot_random_seed=self.seed,
            )
        except HarnessFailure:
            raise
        except Exception as error:
            raise HarnessFailure(f"lm-eval failed ({type(error).__name__}: {error})") from error
        if results is None or "samples" not in results:
            raise HarnessFailure("lm-eval returned no samples")
        return results


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


def _check_means(scores: Sequence[ItemScore], results: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse metrics that are no mean over documents (such as perplexity): an interval of a mean would mislead."""
    values: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        if score.value is not None:
            values.setdefault((score.category, score.metric), []).append(score.value)
    for (task, metric), items in values.items():
        reported = results[task].get(metric if "," in metric else f"{metric},none")
        if reported is not None and abs(sum(items) / len(items) - float(reported)) > 1e-9:
            raise HarnessFailure(
                f"lm-eval's {metric} of {task} is {float(reported):g}, not the mean over its documents: this table has"
                " means only; leave the task out"
            )


@contextmanager
def _environment(*, key: str | None, offline: bool) -> Iterator[None]:
    """The variables that the harness reads, set for its run alone."""
    wanted = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if offline else {}
    if key is not None:
        wanted["OPENAI_API_KEY"] = key
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
