"""What Hydra calls for each cell: alone, as one of a sweep in the sweep's own process, or in a process of a launcher.

Every way but the first leaves an error in the cell's folder and lets the other cells go on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what draws and what runs comes late: --help needs neither
    from ablations.sweep.files import SweepCell
    from fusion.runtime.progress import RunProgress


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """A composed cell: its settings as plain types, where it goes, and in what it differs from its sweep's others."""

    settings: Mapping[str, Any]
    cell: SweepCell
    axes: Mapping[str, str]
    study: str | None


def run(settings: dict[str, Any]) -> None:
    """A cell alone, or one of a sweep; Hydra's settings say which, and by which launcher."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ablations.sweep.files import SweepCell

    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    held = {"seed", *hydra.job.config.override_dirname.exclude_keys}
    overrides = tuple(str(override) for override in hydra.overrides.task)
    pairs = [override.lstrip("+~").split("=", 1) for override in overrides if "=" in override]
    alone = settings["report"]["out"] or Path(settings["paths"]["reports"]) / settings["name"]
    job = CellJob(
        settings=settings,
        cell=SweepCell(
            name=hydra.job.override_dirname or "base",
            overrides=overrides,
            folder=Path(hydra.runtime.output_dir if sweeping else alone),
        ),
        axes={key: value for key, value in pairs if key not in held},
        study=hydra.runtime.choices.get("study"),
    )
    if not sweeping:
        run_alone(job)
    elif hydra.runtime.choices["hydra/launcher"] == "basic":
        run_here(job, sweep=Path(hydra.sweep.dir))
    else:
        from ablations.sweep.process import run_below

        run_below(job)


def end_servers() -> None:
    """End what the cells of this process left up for the next one."""
    standing = sys.modules.get("eval.serve.standing")  # not imported where no cell ran
    if standing is not None:
        standing.process_servers().close()


def run_alone(job: CellJob) -> None:
    """A cell that is no sweep's; its errors are the command's."""
    from ablations.show import show
    from fusion.runtime.progress import RunProgress

    show(_run(job, RunProgress()), job.cell.folder)


def run_here(job: CellJob, *, sweep: Path) -> None:
    """A cell in the sweep's own process, under a heading."""
    from ablations.sweep.files import labels, read_cells, state_of
    from fusion.runtime.progress import terminal

    cells = read_cells(sweep)
    place = [cell.name for cell in cells].index(job.cell.name) + 1
    heading = f"cell {place} of {len(cells)}: {labels(cells)[job.cell.name]}"
    terminal().print(heading, style="bold", highlight=False, markup=False, soft_wrap=True)
    attempt(job)
    failure = state_of(job.cell).failure
    if failure is not None:
        terminal().print(f"failed: {failure.reason}", highlight=False, markup=False)


def attempt(job: CellJob) -> None:
    """Run a sweep's cell; an error is left in its folder."""
    from ablations.sweep.files import forget, keeping_progress
    from fusion.runtime.progress import RunProgress

    forget(job.cell)
    shown = RunProgress()
    with keeping_progress(job.cell, shown):
        _run(job, shown)


def _run(job: CellJob, shown: RunProgress) -> Any:
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
    )
