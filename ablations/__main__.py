"""python -m ablations [-m] experiment=NAME [axis=a,b,c]: one cell, or with -m a sweep of cells.

A single cell's report lies in reports/<experiment>/; a sweep's cells in artifacts/sweeps/<experiment>/<time>/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.command import command


def run(settings: dict[str, Any]) -> None:
    """One cell; Hydra calls this once for each cell of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ablations.cell import run_cell
    from ablations.show import show
    from eval.serve.standing import process_servers

    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    held = {"seed", *hydra.job.config.override_dirname.exclude_keys}
    pairs = [override.lstrip("+~").split("=", 1) for override in hydra.overrides.task if "=" in override]
    axes = {key: value for key, value in pairs if key not in held}
    if sweeping:
        out = Path(hydra.runtime.output_dir)
    else:
        out = Path(settings["report"]["out"] or Path(settings["paths"]["reports"]) / settings["name"])
    name = hydra.job.override_dirname or "base"
    study = hydra.runtime.choices.get("study")
    table = run_cell(settings, out=out, name=name, axes=axes, study=study, servers=process_servers())
    show(table, out)


def end_servers() -> None:
    """End what the cells of this process left up for the next one."""
    from eval.serve.standing import process_servers

    process_servers().close()


if __name__ == "__main__":
    try:
        command("ablations", run)
    finally:
        end_servers()
