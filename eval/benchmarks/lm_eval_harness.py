"""lm-eval tasks through the harness's Python API, against the server that is already running or in process.

The harness asks, parses and scores; here its logged samples become item scores, so that its metrics get the same
intervals and paired differences as every other.  Its answer cache is never used: the key leaves the model out, so a
second checkpoint would be given the first one's answers (lm-evaluation-harness issue 4063).
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from eval.benchmarks.lm_eval_scores import LMEvalTask, metric_of_task, task_scores
from eval.benchmarks.lm_eval_tasks import drawn_documents, folder_digest, folder_of_tasks, task_files
from eval.benchmarks.protocol import ModelDtype
from eval.errors import HarnessFailure
from eval.records import ItemScore
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow, mean_row
from eval.serve.chat_template import ChatTemplate, chat_template
from eval.serve.loading import LOADING
from eval.serve.server import Endpoint
from fusion.runtime.configure import nearest

# The harness seeds the process's own random generators and reads its environment, so two runs cannot share a process.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class LMEvalHarness:
    """Settings of one lm-eval entry."""

    name: ClassVar[str] = "lm_eval"
    needs_judge: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("lm-eval",)

    tasks: tuple[str | LMEvalTask, ...]
    # A folder of task YAMLs (eval.benchmarks.lm_eval_tasks), by its name in conf/lm_eval_tasks, or relative to
    # `paths.data`; None: the package's own tasks.
    task_folder: str | None = None
    offline: bool = True  # false lets the package's tasks fetch their data from the hub
    # `server` asks the running endpoint for token log-probabilities, `hf` loads the checkpoint in this process.
    backend: Literal["server", "hf"] = "server"
    device: str = "cpu"  # for hf
    dtype: ModelDtype = "auto"  # for hf; auto: the checkpoint's own
    num_fewshot: int | None = None
    limit: int | None = None  # the first so many documents of each task
    sample: int | None = None  # so many documents of each task, drawn by `seed`
    system: str | None = None  # what the system turn says, where the chat template is applied
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = False
    concurrency: int = 4
    batch_size: int = 1
    max_length: int = 2048
    seed: int = 1234  # of the few-shot examples, and of the documents of `sample`

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one lm-eval task")
        for name in ("limit", "sample"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1, or null for every document")
        if self.limit is not None and self.sample is not None:
            raise ValueError("limit takes the first documents and sample draws some: set one of them")
        if self.system is not None and not self.apply_chat_template:
            raise ValueError("system needs apply_chat_template: a plain prompt has no system turn")
        if self.concurrency < 1 or self.batch_size < 1:
            raise ValueError("concurrency and batch_size must be at least 1")
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn needs apply_chat_template: examples become turns of a chat")
        names = [one.task for one in self.chosen]
        if len(set(names)) != len(names):
            raise ValueError(f"tasks name {next(name for name in names if names.count(name) > 1)} twice")

    @property
    def chosen(self) -> tuple[LMEvalTask, ...]:
        """The tasks with their settings, the entry's own number of examples filled in."""
        named = [LMEvalTask(task=one) if isinstance(one, str) else one for one in self.tasks]
        return tuple(
            one if one.num_fewshot is not None else replace(one, num_fewshot=self.num_fewshot) for one in named
        )

    @property
    def served(self) -> bool:
        return self.backend == "server"

    def in_process(self, *, device: str, dtype: ModelDtype) -> LMEvalHarness:
        """The same tasks on a model that this process loads."""
        return replace(self, backend="hf", device=device, dtype=dtype)

    def measure(self, *, checkpoint: Path, data: Path, endpoint: Endpoint | None = None) -> list[ItemScore]:
        """Run the tasks; one score per document and metric, the name of the task or group that was chosen as category.

        `checkpoint` gives the tokenizer (and, for `hf`, the weights).  Raises HarnessFailure when the harness fails.
        """
        if self.backend == "server" and endpoint is None:
            raise HarnessFailure("lm-eval's backend 'server' needs the endpoint of a running server")
        environment = _environment(key=endpoint.key if endpoint else None, offline=self.offline)
        with _ONE_AT_A_TIME, environment, task_files(folder_of_tasks(self.task_folder, data), data) as folder:
            found = self._evaluate(checkpoint, folder, endpoint)
        return [score for one, results in zip(self.chosen, found, strict=True) for score in task_scores(one, results)]

    def origin(self, data: Path) -> dict[str, str]:
        """What the tasks are made from: the package's version, and a digest of every file in the task folder."""
        folder = folder_of_tasks(self.task_folder, data)
        found = {"lm_eval": importlib.metadata.version("lm_eval")}
        if folder is not None:
            found["task_folder"] = folder_digest(folder, data)
        return found

    def metrics(self, scores: Sequence[ItemScore], uncertainty: Uncertainty) -> list[MetricRow]:
        """The mean of every metric of every task, in the harness's scale (accuracies 0 to 1); the slice is the task."""
        cells: dict[tuple[str, str], list[ItemScore]] = {}
        for score in scores:
            cells.setdefault((score.metric, score.category), []).append(score)
        return [
            mean_row(
                self.name,
                metric,
                task,
                [item.value for item in items],
                range(len(items)),
                uncertainty,
                ends=metric_of_task(metric).ends,
            )
            for (metric, task), items in cells.items()
        ]

    def _evaluate(self, checkpoint: Path, folder: Path | None, endpoint: Endpoint | None) -> list[Mapping[str, object]]:
        """What the harness returns for each chosen task: the model and the list of tasks are loaded once."""
        from lm_eval import simple_evaluate
        from lm_eval.api.registry import get_model
        from lm_eval.tasks import TaskManager

        if endpoint is not None and self.backend == "server":
            model = "local-completions"
            arguments: dict[str, object] = {
                "model": endpoint.model,
                "base_url": f"{endpoint.base_url.rstrip('/')}/completions",
                "tokenizer": str(checkpoint),
                "tokenizer_backend": "huggingface",
                "num_concurrent": self.concurrency,
                "max_length": self.max_length,
            }
        else:
            model = "hf"
            arguments = {
                "pretrained": str(checkpoint),
                "device": self.device,
                "dtype": self.dtype,
                "max_length": self.max_length,
            }
        chosen = self.chosen
        try:
            manager = TaskManager(include_path=str(folder) if folder else None, include_defaults=folder is None)
            unknown = [one.task for one in chosen if one.task not in manager.all_tasks]
            if unknown:
                raise HarnessFailure(
                    f"lm-eval knows no task {', '.join(unknown)}: {nearest(unknown[0], manager.all_tasks)}"
                )
            settings = {"batch_size": self.batch_size, "max_batch_size": None}
            with LOADING:
                language_model = get_model(model).create_from_arg_obj(arguments, settings)
            if self.apply_chat_template:
                language_model.apply_chat_template = _rendered_by(chat_template(checkpoint))
            found = [
                simple_evaluate(
                    model=language_model,
                    tasks=[one.task],
                    task_manager=manager,
                    num_fewshot=one.num_fewshot,
                    limit=self.limit,
                    samples=drawn_documents(manager, one.task, self.sample, seed=self.seed),
                    system_instruction=self.system,
                    batch_size=self.batch_size,
                    apply_chat_template=self.apply_chat_template,
                    fewshot_as_multiturn=self.fewshot_as_multiturn,
                    log_samples=True,
                    bootstrap_iters=0,
                    use_cache=None,
                    random_seed=self.seed,
                    numpy_random_seed=self.seed,
                    torch_random_seed=self.seed,
                    fewshot_random_seed=self.seed,
                )
                for one in chosen
            ]
        except HarnessFailure:
            raise
        except Exception as error:
            way_out = (
                "; a task of the package's own needs its data from the hub or its cache: set"
                " benchmark.<entry>.offline=false, or name a task_folder whose tasks read local files"
                if folder is None and self.offline
                else ""
            )
            raise HarnessFailure(f"lm-eval failed ({type(error).__name__}: {error}){way_out}") from error
        if any(results is None or "samples" not in results for results in found):
            raise HarnessFailure("lm-eval returned no samples")
        return found


def _rendered_by(template: ChatTemplate) -> Callable[..., str]:
    """The template in the harness's way; where no answer is to begin, the last message goes on."""

    def apply(chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        return template.prompt(chat_history) if add_generation_prompt else template.begun(chat_history)

    return apply


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
