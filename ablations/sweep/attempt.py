"""One attempt at a cell of a sweep, in whatever process it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what draws and what runs comes late: --help needs neither
    import pandas as pd

    from ablations.sweep.files import SweepCell
    from fusion.runtime.progress import RunProgress


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """A composed cell: its settings as plain types, where it goes, and in what it differs from its sweep's others."""

    settings: Mapping[str, object]
    cell: SweepCell
    axes: Mapping[str, str]
    study: str | None


def end_servers() -> None:
    """End what the cells of this process left up for the next one."""
    standing = sys.modules.get("eval.serve.standing")  # not imported where no cell ran
    if standing is not None:
        standing.process_servers().close()


def attempt(job: CellJob) -> None:
    """Run a sweep's cell; an error is left in its folder."""
    from ablations.sweep.files import forget, keeping_progress
    from fusion.runtime.progress import RunProgress

    forget(job.cell)
    shown = RunProgress()
    with keeping_progress(job.cell, shown):
        run_job(job, shown)


def run_job(job: CellJob, shown: RunProgress) -> pd.DataFrame:
    """The cell's score table; errors pass through."""
    from ablations.cell import run_cell
    from eval.serve.standing import process_servers

    return run_cell(
        job.settings,
        out=job.cell.folder,
        name=job.cell.name,
        axes=job.axes,
        study=job.study,
        servers=process_servers(),
        shown=shown,
        command=["python", "-m", "ablations", *job.cell.overrides],
    )
