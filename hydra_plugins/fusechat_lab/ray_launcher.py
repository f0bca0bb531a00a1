"""Cells as Ray tasks, on this machine or on a cluster that is up.

hydra-ray-launcher asks for the whole of ray[default], boto3 and a cloudpickle below 3, for machines that it rents at
Amazon, and waits for its tasks by a call that raises at the first one lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class RayLauncher(Launcher):
    """One Ray task for each cell; a task that is lost fails alone."""

    def __init__(self, init: Mapping[str, object], remote: Mapping[str, object]) -> None:
        self.init = {key: value for key, value in init.items() if value is not None}
        self.remote = {key: value for key, value in remote.items() if value is not None}
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the cells; Ray is started for them, or joined, and left again."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers what it runs on
        import ray

        setup_globals()
        ray.init(**self.init)
        try:
            task = ray.remote(**self.remote)(_run) if self.remote else ray.remote(_run)
            shared = ray.put((self.hydra_context, self.task_function, self.config, Singleton.get_state()))
            started = [
                task.remote(shared, list(overrides), initial_job_idx + place)
                for place, overrides in enumerate(job_overrides)
            ]
            return [_outcome(one) for one in started]
        finally:
            ray.shutdown()


def _run(shared: tuple[Any, ...], overrides: list[str], index: int) -> JobReturn:
    context, task_function, master, singletons = shared
    setup_globals()
    Singleton.set_state(singletons)
    config = context.config_loader.load_sweep_config(master, overrides)
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{index}"
        config.hydra.job.num = index
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _outcome(task: object) -> JobReturn:
    import ray

    try:
        found: JobReturn = ray.get(task)
    except ray.exceptions.RayError as error:
        found = JobReturn(status=JobStatus.FAILED)
        found.return_value = error
    return found
