"""Finished cells in an experiment tracker: the trackers by name.

    tracker = tracker_from(settings["tracking"], settings)      before the first stage: refuses what cannot work
    track(tracker, settings, out)                               after the cell is written: never raises

A tracker is a frozen dataclass: its fields are its settings, its `log` writes one cell, so that the same cell logged
twice is there once.  To add one: a file here, a line in TRACKERS, a file in conf/tracking.  record.py says what a
tracker is given; mlflow.py, wandb.py and none.py are the trackers.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ablations.tracking.mlflow import MLflow
from ablations.tracking.none import NoTracking
from ablations.tracking.record import CellRecord, record_of, refuse_secrets
from ablations.tracking.wandb import WandB
from fusion.runtime.configure import Refusal, choose


class Tracker(Protocol):
    """`package` is the module it imports when it logs, None for none."""

    @property
    def package(self) -> str | None: ...

    def log(self, record: CellRecord) -> None:
        """Write the cell; replace what an earlier run of the same cell wrote.  May raise anything."""


TRACKERS: Mapping[str, type[Tracker]] = {"none": NoTracking, "mlflow": MLflow, "wandb": WandB}


def tracker_from(settings: Mapping[str, Any]) -> Tracker:
    """The tracker that the composed `settings` choose.

    Raises Refusal for an unknown or mistyped setting, a package that is not installed, and a key among the settings.
    """
    tracker = choose(TRACKERS, settings["tracking"], at="tracking")
    if tracker.package is None:
        return tracker
    if importlib.util.find_spec(tracker.package) is None:
        raise Refusal(
            f"tracking={settings['tracking']['name']} needs the package {tracker.package}, which is not installed:"
            " pip install -e '.[tracking]' from the clone, or tracking=none"
        )
    refuse_secrets(settings)
    return tracker


def track(tracker: Tracker, settings: Mapping[str, Any], out: Path) -> None:
    """Log the finished cell in `out`.  A tracker that fails is shown on stderr: the cell is finished all the same."""
    try:
        if tracker.package is not None:
            tracker.log(record_of(settings, out))
    except Exception as error:  # a tracker may raise anything, and nothing of it is worth a finished cell
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        print(
            f"note: the cell in {out} is finished, but {tracker.package} could not log it: {type(error).__name__}:"
            f" {said}. The same command computes nothing again and logs it.",
            file=sys.stderr,
        )
