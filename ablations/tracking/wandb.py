"""Cells in Weights & Biases: offline, as folders that `wandb sync` would send, or online where that is asked for.

A cell is a run whose id is the cell's digest, so the newest one stands for the cell, here and on the server.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ablations.tracking.record import CellRecord


@dataclass(frozen=True, kw_only=True)
class WandB:
    """`directory` holds the runs, and whatever else the library writes.  Runs are grouped by study, else experiment.

    `online` sends them at once, with the key in WANDB_API_KEY.
    """

    directory: str
    project: str = "fusechat-lab"
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"

    def __post_init__(self) -> None:
        if self.mode == "online" and not os.environ.get("WANDB_API_KEY"):
            raise ValueError("mode is online and WANDB_API_KEY is not set: set it, or take mode=offline")

    @property
    def package(self) -> str:
        """The official client."""
        return "wandb"

    def log(self, record: CellRecord) -> None:
        """Write the cell as a run, then remove what an earlier one left on this disk."""
        directory = Path(self.directory).expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("CACHE", "CONFIG", "DATA"):  # else below the home directory
            os.environ.setdefault(f"WANDB_{name}_DIR", str(directory / name.lower()))
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        earlier = list((directory / "wandb").glob(f"*run-*-{record.digest}"))
        import wandb

        run = wandb.init(
            project=self.project,
            entity=self.entity,
            dir=directory,
            id=record.digest,
            name=record.name,
            group=record.group,
            resume="allow" if self.mode == "online" else None,
            config={**record.settings, "axes": dict(record.axes)},
            allow_val_change=True,
            settings=wandb.Settings(
                mode=self.mode,
                silent=True,
                console="off",  # the terminal's lines are not the cell's
                disable_git=True,
                disable_code=True,
                save_code=False,
                host="",  # neither the machine's nor the user's name
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        with run:
            run.summary.update(record.numbers)
            run.summary.update({f"unscored/{key}": reason for key, reason in record.unscored.items()})
            for path in record.files:
                shutil.copy(path, run.dir)
                run.save(str(Path(run.dir) / path.name), base_path=run.dir, policy="now")
        wandb.teardown()  # its service would outlive the cell
        for folder in earlier:
            shutil.rmtree(folder)
