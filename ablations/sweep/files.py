"""The small files by which a sweep's cells, its parent and a watcher know of each other, wherever they run.

    <sweep>/cells.json       every cell's name, overrides and folder, in the order of launching
    <cell>/progress.json     how far a running cell is, about once a second
    <cell>/failed.json       why a cell failed
    <cell>/cell.json         what a finished cell is made of (ablations.cell)

All are written beside and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

import psutil

from ablations.cell_note import CELL
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.progress import RunProgress
from fusion.runtime.reading import read_json, read_object

T = TypeVar("T")

State = Literal["waiting", "running", "stopped", "failed", "finished"]
_EVERY = 1.0  # seconds between two looks at what a cell does
_SIGN_OF_LIFE = 15.0  # seconds after which progress.json is written though nothing changed
# A process on another machine that has not written for this long is taken for dead.
_SILENT = 120.0
_LOGGED = "log.txt"


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """One cell of a sweep: its overrides, its name (the overrides in which it differs from the others) and its
    folder.
    """

    name: str
    overrides: tuple[str, ...]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a cell is.  Times are in seconds since 1970."""

    name: str
    state: Literal["running", "failed", "finished"]
    stage: str = ""  # the one under way
    what: str = ""
    done: int = 0  # of `total` units of the stage
    total: int | None = None
    computed: int = 0  # stages so far, as `reused`
    reused: int = 0
    started: float
    updated: float
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a cell failed: `where` is the stage it was at, `refused` whether its input was refused."""

    name: str
    overrides: tuple[str, ...] = ()
    reason: str
    traceback: str = ""
    where: str = ""
    refused: bool = False


@dataclass(frozen=True, kw_only=True)
class _ListedCell:
    name: str
    overrides: tuple[str, ...]
    folder: str


@dataclass(frozen=True, kw_only=True)
class _Listed:
    cells: tuple[_ListedCell, ...]


@dataclass(frozen=True, kw_only=True)
class CellState:
    """A cell as its files show it; `progress` and `failure` are None where there is no such file.

    One whose files are damaged has failed, by that.
    """

    cell: SweepCell
    state: State
    progress: Progress | None
    failure: Failure | None


def write_cells(sweep: Path, cells: Sequence[SweepCell]) -> None:
    """Note a sweep's cells in its folder."""
    rows = [
        {"name": cell.name, "overrides": cell.overrides, "folder": os.path.relpath(cell.folder, sweep)}
        for cell in cells
    ]
    _write(sweep / "cells.json", rows)


def read_cells(sweep: Path) -> list[SweepCell]:
    """The cells of the sweep in this folder.  Raises Refusal where no sweep was started, or the list is damaged."""
    file = sweep / "cells.json"
    if not file.exists():
        raise Refusal(f"{sweep} has no cells.json: expected the folder of a sweep, as python -m ablations -m leaves it")
    found = read_json(file, expected="the cells of a sweep")
    try:
        rows = typed({"cells": found}, _Listed).cells
    except Refusal as refusal:
        raise Refusal(f"{file} is no list of a sweep's cells ({refusal}): start the sweep anew") from refusal
    return [SweepCell(name=row.name, overrides=row.overrides, folder=sweep / row.folder) for row in rows]


def next_step(sweep: Path, states: Sequence[CellState]) -> list[str]:
    """The command that goes on from a sweep: watch what runs or waits, take up what failed, or report on all."""
    found = {state.state for state in states}
    if "running" in found:
        return ["python", "-m", "ablations.watch", f"cells={sweep}"]
    if found - {"finished"}:
        return ["python", "-m", "ablations", f"resume={sweep}"]
    return ["python", "-m", "ablations.report", f"cells={sweep}", f"out={sweep}/report"]


def labels(cells: Sequence[SweepCell]) -> dict[str, str]:
    """By a cell's name, the overrides that not all cells share, by which a reader can distinguish them."""
    shared = set.intersection(*(set(cell.overrides) for cell in cells)) if len(cells) > 1 else set()
    return {cell.name: " ".join(one for one in cell.overrides if one not in shared) or cell.name for cell in cells}


def state_of(cell: SweepCell) -> CellState:
    """What the cell's files say.  One that calls itself running though its process is gone has `stopped`."""
    finished = (cell.folder / CELL).exists()
    progress = failure = None
    try:
        if finished:
            read_object(cell.folder / CELL, expected="what a finished cell says of itself")
        progress = _read(cell.folder / "progress.json", Progress)
        failure = read_failure(cell.folder)
    except Refusal as refusal:
        finished, failure = False, _failure(cell, str(refusal))
    state: State = "waiting"
    if finished:
        state = "finished"
    elif failure is not None:
        state = "failed"
    elif progress is not None:
        state = "running" if _alive(progress) else "stopped"
    return CellState(cell=cell, state=state, progress=progress, failure=failure)


def read_failure(folder: Path) -> Failure | None:
    """Why the cell in this folder failed, if it did.  Raises Refusal where that is damaged."""
    return _read(folder / "failed.json", Failure)


def forget(cell: SweepCell) -> None:
    """Remove what an earlier attempt said of itself."""
    for name in (CELL, "failed.json", "progress.json"):
        (cell.folder / name).unlink(missing_ok=True)


def fail(cell: SweepCell, reason: str, *, error: BaseException | None = None, where: str = "") -> None:
    """Leave `failed.json` in the cell's folder."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    _write(cell.folder / "failed.json", asdict(_failure(cell, reason, error=error, where=where)))


def _failure(cell: SweepCell, reason: str, *, error: BaseException | None = None, where: str = "") -> Failure:
    return Failure(
        name=cell.name,
        overrides=cell.overrides,
        reason=reason,
        traceback="" if error is None else "".join(traceback.format_exception(error)),
        where=where,
        refused=isinstance(error, Refusal),
    )


def where_stopped(state: CellState) -> str:
    """The stage that a cell was at when it last wrote its progress."""
    progress = state.progress
    return "" if progress is None else f"{progress.stage} {progress.what}".strip()


@contextlib.contextmanager
def keeping_progress(cell: SweepCell, run: RunProgress) -> Iterator[None]:
    """Keep the cell's progress.json up to date while the block works.

    A block that raises leaves failed.json as well; an Exception ends there, anything else (an interruption) goes on.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    begun = Progress(
        name=cell.name, state="running", started=time.time(), updated=0.0, host=socket.gethostname(), pid=os.getpid()
    )
    _write_progress(cell, begun)
    ended = threading.Event()
    writer = threading.Thread(target=_follow, args=(cell, run, begun, ended), daemon=True)
    writer.start()
    failed: Exception | None = None
    try:
        yield
    except Exception as error:
        failed = error
    finally:
        ended.set()
        writer.join()
    last = _now(begun, run)
    if failed is not None:
        fail(cell, _reason(failed), error=failed, where=run.failed_in)
    _write_progress(cell, dataclasses.replace(last, state="finished" if failed is None else "failed"))


def log_of(cell: SweepCell) -> Path:
    """Where a cell that runs in a process of its own writes what it says."""
    return cell.folder / _LOGGED


def _follow(cell: SweepCell, run: RunProgress, begun: Progress, ended: threading.Event) -> None:
    written, at = begun, time.monotonic()
    while not ended.wait(_EVERY):
        now = _now(begun, run)
        if now != written or time.monotonic() - at > _SIGN_OF_LIFE:
            _write_progress(cell, now)
            written, at = now, time.monotonic()


def _now(begun: Progress, run: RunProgress) -> Progress:
    counted = dataclasses.replace(begun, computed=run.computed, reused=run.reused)
    running = run.running()
    if not running:
        return counted
    last = running[-1]
    return dataclasses.replace(counted, stage=last.stage, what=last.what, done=last.done, total=last.total)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if isinstance(error, Refusal):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _alive(progress: Progress) -> bool:
    if progress.state != "running":
        return False
    if progress.host != socket.gethostname():
        return time.time() - progress.updated < _SILENT
    try:
        process = psutil.Process(progress.pid)
        # A number that was given to another process since then is not the cell's.
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < progress.started + 1)
    except (psutil.Error, ValueError, OverflowError):  # gone, or a number that no process has
        return False


def _write_progress(cell: SweepCell, progress: Progress) -> None:
    _write(cell.folder / "progress.json", asdict(dataclasses.replace(progress, updated=round(time.time(), 3))))


def _write(path: Path, content: object) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(path)


def _read(path: Path, kind: type[T]) -> T | None:
    """What was written there, None where nothing was.  Raises Refusal where it is damaged."""
    if not path.exists():
        return None
    found = read_object(path, expected=f"the {kind.__name__.lower()} of a cell")
    try:
        return typed(found, kind)
    except Refusal as refusal:
        raise Refusal(f"{path} is not what a cell writes there ({refusal}): run the cell again") from refusal


def cells_directory(cells: str, artifacts: Path) -> Path:
    """A directory as it is given, or the newest sweep of an experiment or study of that name."""
    if Path(cells).is_dir():
        return Path(cells)
    sweeps = sorted((artifacts / "sweeps" / cells).glob("*/"))
    if not sweeps:
        known = sorted(path.name for path in (artifacts / "sweeps").glob("*/"))
        raise Refusal(
            f"'{cells}' is neither a directory nor a sweep below {artifacts / 'sweeps'}"
            f" (there: {', '.join(known) or 'none'}): run python -m ablations -m experiment={cells} ... first"
        )
    return sweeps[-1]
