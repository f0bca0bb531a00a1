"""Cells in MLflow: a store of its own on this disk, or a tracking server.

A study (else the experiment) is an MLflow experiment, a cell a run.  A cell that was logged before is logged anew and
its old run deleted; when neither its settings nor its files changed, the old run stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from ablations.tracking.record import CellRecord, flat

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

# MLflow's limits: parameters and metrics in one call, and the characters of a parameter.
_PARAMETERS, _METRICS, _CHARACTERS = 100, 500, 6000


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """`directory` holds the local store, `mlflow.db` and `files`; `server` is the address of a tracking server instead,
    which takes the user's name and password from the environment.  `experiment` None: the study, else the experiment.
    """

    directory: str
    server: str | None = None
    experiment: str | None = None

    def __post_init__(self) -> None:
        if self.server is not None and urlsplit(self.server).password is not None:
            raise ValueError(
                "server holds a password: give the bare address, and MLFLOW_TRACKING_USERNAME and"
                " MLFLOW_TRACKING_PASSWORD in the environment"
            )

    @property
    def package(self) -> str:
        """MLflow, for which its skinny build is enough."""
        return "mlflow"

    def log(self, record: CellRecord) -> None:
        """Write the cell as a run, then delete the runs that an earlier one left."""
        with self._store() as client:
            experiment = self._experiment(client, self.experiment or record.group)
            old = client.search_runs([experiment], f"tags.cell_digest = '{record.digest}'")
            finished = [run for run in old if run.info.status == "FINISHED"]
            if any(run.data.tags.get("result_digest") == record.result for run in finished):
                return
            run = client.create_run(experiment, run_name=record.name, tags=_tags(record)).info.run_id
            _log(client, run, record)
            client.set_terminated(run, "FINISHED")
            for earlier in old:
                client.delete_run(earlier.info.run_id)

    @contextlib.contextmanager
    def _store(self) -> Iterator[MlflowClient]:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient

        for chatty in ("mlflow", "alembic"):  # they tell of every table that they make
            logging.getLogger(chatty).setLevel(logging.WARNING)
        if self.server is not None:
            yield MlflowClient(tracking_uri=self.server)
            return
        directory = Path(self.directory).expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):  # cells of one sweep end at the same time; the first one makes the tables
            yield MlflowClient(tracking_uri=f"sqlite:///{directory / 'mlflow.db'}")

    def _experiment(self, client: MlflowClient, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        files = None if self.server else (Path(self.directory).expanduser().resolve() / "files").as_uri()
        return str(client.create_experiment(name, artifact_location=files))


def _tags(record: CellRecord) -> dict[str, str]:
    tags = {"cell_digest": record.digest, "result_digest": record.result, "experiment": record.experiment}
    tags |= {"seed": str(record.seed)} | ({"study": record.study} if record.study else {})
    tags |= {f"axis.{axis}": value for axis, value in record.axes.items()}
    return tags | {f"unscored.{key}": reason for key, reason in record.unscored.items()}


def _log(client: MlflowClient, run: str, record: CellRecord) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    for some in _batches([Param(key, str(value)[:_CHARACTERS]) for key, value in flat(record.settings)], _PARAMETERS):
        client.log_batch(run, params=some)
    for some in _batches([Metric(key, value, now, 0) for key, value in record.numbers.items()], _METRICS):
        client.log_batch(run, metrics=some)
    for path in record.files:
        client.log_artifact(run, str(path))


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
