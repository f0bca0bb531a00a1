"""What Hydra calls for each cell: alone, as one of a sweep in the sweep's own process, or in a process of a launcher.

Every way but the first leaves an error in the cell's folder and lets the other cells go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablations.sweep.attempt import CellJob, attempt, run_job


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
        from fusion.runtime.interrupt import leave_to_the_process_above

        leave_to_the_process_above()
        run_below(job)


def run_alone(job: CellJob) -> None:
    """A cell that is no sweep's; its errors are the command's."""
    from eval.report.terminal import show
    from fusion.runtime.outlook import process_outlook
    from fusion.runtime.progress import RunProgress

    same = [override for override in job.cell.overrides if not override.startswith("seed=")]
    several = ["python", "-m", "ablations", "-m", *same, "seed=0,1,2"]
    show(run_job(job, RunProgress(outlook=process_outlook())), job.cell.folder, next_command=several)


def run_here(job: CellJob, *, sweep: Path) -> None:
    """A cell in the sweep's own process, under a heading."""
    from ablations.sweep.files import labels, read_cells, state_of
    from fusion.runtime.progress import terminal
    from fusion.runtime.visible import visible

    cells = read_cells(sweep)
    place = [cell.name for cell in cells].index(job.cell.name) + 1
    heading = f"cell {place} of {len(cells)}: {labels(cells)[job.cell.name]}"
    terminal().print(heading, style="bold", highlight=False, markup=False, soft_wrap=True)
    attempt(job)
    failure = state_of(job.cell).failure
    if failure is not None:
        terminal().print(f"failed: {visible(failure.reason)}", highlight=False, markup=False)
