"""A sweep as its parent sees it: which cells are missing, their launch, what became of them, and how to go on.

Hydra makes the cells (hydra_plugins.fusechat_lab.cell_sweeper) and its launchers run them, here or in other processes;
what they report comes back through the files in the sweep's folder (ablations.sweep.files).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.made_by import outdated, read_code
from ablations.sweep.files import (
    SweepCell,
    cells_directory,
    fail,
    forget,
    next_step,
    state_of,
    where_stopped,
    write_cells,
)
from ablations.sweep.view import failures_table, watching
from fusion.runtime.command import plain_settings
from fusion.runtime.configure import Refusal
from fusion.runtime.interrupt import before_end
from fusion.runtime.next_step import say_next
from fusion.runtime.progress import terminal
from fusion.runtime.reading import read_yaml

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher
    from omegaconf import DictConfig

# Submitit says that a job was lost while others wait in a queue or still begin: without a sign of life of any cell for
# this many seconds they are left to themselves.
_PATIENCE = 120.0


def launch_cells(
    overrides: Sequence[Sequence[str]],
    master: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    *,
    at_once: int | None = None,
) -> None:
    """Run the cells that these overrides make, `at_once` (None: all) given to the launcher together.

    With `resume`, only those that are not finished.  Raises Refusal, before any is launched, for cells that do not
    compose or would share a folder; exits with status 1 when some failed, 2 when all that failed were refused.
    """
    from omegaconf import OmegaConf

    folder = Path(master.resume or master.hydra.sweep.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    cells = [_composed(list(one), master, loader, folder) for one in overrides]
    _refuse_twins(cells)
    OmegaConf.save(master, folder / "multirun.yaml")
    _settle_folder(master, folder)
    write_cells(folder, cells)
    missing = cells
    if master.resume:
        states = [state_of(cell) for cell in cells]
        missing = [state.cell for state in states if state.state not in ("finished", "running")]
        counted = {name: sum(state.state == name for state in states) for name in ("finished", "running")}
        terminal().print(
            f"{counted['finished']} of {len(cells)} cells are finished"
            + (f", {counted['running']} are run by other processes" if counted["running"] else "")
            + f"; {len(missing)} to run",
            highlight=False,
        )
        finished = [state.cell.folder for state in states if state.state == "finished"]
        for sentence in outdated(read_code(finished)):
            terminal().print(f"{sentence}; start the sweep anew to have all by one", highlight=False, soft_wrap=True)
    for cell in missing:
        forget(cell)
    target = str(master.hydra.launcher._target_).rsplit(".", 1)[-1]
    texts = {cell.name: list(one) for cell, one in zip(cells, overrides, strict=True)}
    with before_end(lambda: _say_how_to_go_on(folder)), watching(cells, here=target == "BasicLauncher"):
        for begin in range(0, len(missing), at_once or len(missing) or 1):
            batch = missing[begin : begin + (at_once or len(missing))]
            _launch(batch, texts, launcher, queued=target in ("SlurmLauncher", "LocalLauncher"))
        _wait_for(cells, patience=0.0)
    status = _ended(cells, folder)
    if status:
        sys.exit(status)


def resumed(arguments: Sequence[str]) -> list[str]:
    """The arguments that run what is missing of the sweep that `resume=NAME_OR_DIR` among them names: those it was
    started with, and the others given now, such as another launcher.  Without `resume` they are returned as they are.

    Raises Refusal for an unknown sweep, and for an override that would make other cells.
    """
    overrides = [one for one in arguments if "=" in one and not one.startswith("-")]
    flags = [one for one in arguments if one not in overrides]
    given = {one.lstrip("+").split("=", 1)[0]: one for one in overrides}
    name = _value(given.pop("resume", "="))
    if not name:
        return list(arguments)
    artifacts = _value(given.get("paths.artifacts", "=artifacts"))
    folder = cells_directory(name, Path(artifacts)).absolute()
    if not (folder / "multirun.yaml").exists():
        raise Refusal(f"resume={name}: {folder} has no multirun.yaml: expected a sweep's folder")
    written = read_yaml(folder / "multirun.yaml", expected="the settings that the sweep was started with")
    try:
        started = written["hydra"]
        free = {*started["job"]["config"]["override_dirname"]["exclude_keys"]} - {"experiment", "study"}
        before = [str(one) for kind in ("task", "hydra") for one in started["overrides"][kind]]
    except (KeyError, TypeError) as error:
        raise Refusal(
            f"resume={name}: {folder / 'multirun.yaml'} does not say how the sweep was started ({error!r}): start the"
            " sweep anew, which reuses every stage it can"
        ) from error
    for key in given:
        if key not in free and not key.startswith("hydra."):
            raise Refusal(
                f"resume={name} runs the cells of that sweep, and {given[key]} would make others: expected none"
                f" but {', '.join(sorted(free))} or hydra.*; start a sweep of its own, which reuses every stage it can"
            )
    dropped = tuple(f"{key}=" for key in (*given, "resume", "hydra.sweep.dir"))
    if "launcher" in given:
        dropped += ("hydra.launcher.",)  # the settings of another one
    kept = [one for one in before if not one.lstrip("+").startswith(dropped)]
    return [*flags, *kept, *given.values(), f"resume={_quoted(str(folder))}"]


def _composed(overrides: list[str], master: DictConfig, loader: ConfigLoader, folder: Path) -> SweepCell:
    from omegaconf import open_dict

    composed = loader.load_sweep_config(master, overrides)
    name, subfolder = str(composed.hydra.job.override_dirname), str(composed.hydra.sweep.subdir)
    task = tuple(str(override) for override in composed.hydra.overrides.task)
    with open_dict(composed):
        del composed["hydra"]
    plain_settings(composed)  # what is missing or leads nowhere is refused now
    return SweepCell(name=name or "base", overrides=task, folder=folder / subfolder)


def _refuse_twins(cells: Sequence[SweepCell]) -> None:
    seen: dict[Path, SweepCell] = {}
    for cell in cells:
        other = seen.setdefault(cell.folder, cell)
        if other is not cell:
            axes = " ".join(sorted(set(cell.overrides) ^ set(other.overrides)))
            raise Refusal(
                f"two cells of the sweep would share the folder {cell.folder.name!r}: {axes} is not part of a cell's"
                " name; sweep it in sweeps of their own"
            )


def _settle_folder(master: DictConfig, folder: Path) -> None:
    """Every cell is composed anew from the overrides, on other machines too: they say where the sweep lies."""
    from omegaconf import open_dict, read_write

    with read_write(master.hydra), open_dict(master.hydra):
        master.hydra.overrides.hydra.append(f"hydra.sweep.dir={_quoted(str(folder))}")
        master.hydra.sweep.dir = str(folder)


def _launch(batch: list[SweepCell], texts: dict[str, list[str]], launcher: Launcher, *, queued: bool) -> None:
    """Launch the cells; launch again those not yet started when the launcher lost one of its processes."""
    waiting = batch
    while waiting:
        lost = _lost(launcher, [texts[cell.name] for cell in waiting])
        _wait_for(waiting, patience=_PATIENCE if queued and lost else 0.0)
        states = [state_of(cell) for cell in waiting]
        for state in states:
            if state.state == "stopped":
                fail(
                    state.cell, "its process was killed from outside, or ran out of memory", where=where_stopped(state)
                )
        left = [state.cell for state in states if state.state == "waiting"]
        if not left or (queued and len(left) < len(waiting)):
            return
        if len(left) == len(waiting):
            raise Refusal(f"the launcher started no cell: {lost or 'it does not say why'}")
        waiting = left


def _lost(launcher: Launcher, overrides: list[list[str]]) -> str | None:
    """Launch; an error of the launcher itself is written to the files of all its cells."""
    try:
        for outcome in launcher.launch(overrides, initial_job_idx=0):
            _ = outcome.return_value
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _wait_for(cells: Sequence[SweepCell], *, patience: float) -> None:
    """Return when none of the cells runs, in whatever process, and none that waits began for `patience` seconds."""
    quiet = time.monotonic()
    while True:
        states = {state_of(cell).state for cell in cells}
        if "running" in states:
            quiet = time.monotonic()
        elif "waiting" not in states or time.monotonic() - quiet >= patience:
            return
        time.sleep(0.5)


def _ended(cells: Sequence[SweepCell], folder: Path) -> int:
    states = [state_of(cell) for cell in cells]
    counts = {name: sum(state.state == name for state in states) for name in ("finished", "failed", "waiting")}
    console = terminal()
    if counts["failed"]:
        console.print(failures_table(states))
    if counts["waiting"]:
        console.print(
            f"{counts['waiting']} cells have not started; where they wait in a queue they still may, and"
            f" python -m ablations.watch cells={folder} shows them",
            highlight=False,
            soft_wrap=True,
        )
    print(f"{len(cells)} cells: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    print(f"sweep: {folder}")
    failures = [state.failure for state in states if state.failure is not None]
    if counts["finished"] == len(cells):
        say_next(*next_step(folder, states))
        return 0
    _say_how_to_go_on(folder)
    return 2 if not counts["waiting"] and all(failure.refused for failure in failures) else 1


def _say_how_to_go_on(folder: Path) -> None:
    print(f"to run what is missing: python -m ablations resume={folder}", flush=True)


def _value(override: str) -> str:
    return override.split("=", 1)[1].strip("'\"")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"
