"""All cells of a sweep in one table, live on a terminal; where there is none, a line when a cell begins or ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ablations.sweep.files import CellState, State, SweepCell, labels, state_of
from fusion.runtime.interrupt import before_end
from fusion.runtime.progress import terminal

_STATES: tuple[State, ...] = ("running", "failed", "stopped", "finished", "waiting")
_STYLES = {"running": "cyan", "failed": "red", "stopped": "red", "finished": "green", "waiting": "dim"}
_EVERY = 1.0  # seconds between two looks at the cells' files


class CellsTable:
    """The cells as rich draws them: read anew at most once a second, cut to `height` lines where it is given.

    A terminal that is too low shows those that run or failed before those that ended or wait.
    """

    def __init__(self, cells: Sequence[SweepCell], *, height: int | None = None) -> None:
        self._cells = cells
        self._labels = labels(cells)
        self._height = height
        self._states: list[CellState] = []
        self._read = float("-inf")

    def states(self) -> list[CellState]:
        """Every cell's state, in the sweep's order."""
        if time.monotonic() - self._read >= _EVERY:
            self._states = [state_of(cell) for cell in self._cells]
            self._read = time.monotonic()
        return self._states

    def over(self) -> bool:
        """Whether no cell runs or waits."""
        return not {"running", "waiting"} & {state.state for state in self.states()}

    def __rich__(self) -> Group:
        numbered = list(enumerate(self.states(), start=1))
        shown = numbered
        if self._height is not None and len(numbered) > self._height:
            by_need = sorted(numbered, key=lambda pair: _STATES.index(pair[1].state))
            shown = sorted(by_need[: self._height], key=lambda pair: pair[0])
        table = Table(show_edge=False, pad_edge=False)
        for title in ("", "cell", "state", "stage"):
            table.add_column(title, overflow="ellipsis", no_wrap=title != "cell")
        for title in ("stages", "new", "seconds"):
            table.add_column(title, justify="right", no_wrap=True)
        for number, state in shown:
            table.add_row(str(number), *_row(state, self._labels[state.cell.name]))
        return Group(table, Text(count(self.states())))


def count(states: Sequence[CellState]) -> str:
    """How many cells are in which state, in one line."""
    counts = [(name, sum(state.state == name for state in states)) for name in _STATES]
    return f"{len(states)} cells: " + ", ".join(f"{number} {name}" for name, number in counts if number)


def failures_table(states: Sequence[CellState]) -> Table:
    """Every failed cell with its reason, the stage it was at, and where more is written."""
    table = Table(title="failed cells", title_justify="left", show_edge=False, pad_edge=False)
    for title in ("cell", "reason", "at", "traceback in"):
        table.add_column(title, overflow="fold")
    named = labels([state.cell for state in states])
    for state in states:
        if state.failure is not None:
            more = f"{state.cell.folder.name}/failed.json"
            table.add_row(*map(escape, (named[state.cell.name], state.failure.reason, state.failure.where, more)))
    return table


@contextlib.contextmanager
def watching(cells: Sequence[SweepCell], *, here: bool) -> Iterator[None]:
    """Show the cells while the block runs them; `here`: in this process, where each says itself what it does."""
    console = terminal()
    if console.is_terminal:
        table = CellsTable(cells, height=max(3, console.height - (14 if here else 6)))
        live = Live(get_renderable=table.__rich__, console=console, refresh_per_second=4, transient=True)
        with live, before_end(live.stop):
            yield
        return
    if here:
        yield
        return
    ended = threading.Event()
    teller = threading.Thread(target=_tell, args=(cells, ended), daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _row(state: CellState, label: str) -> tuple[str, ...]:
    state_text = f"[{_STYLES[state.state]}]{state.state}[/]"
    progress, failure = state.progress, state.failure
    if failure is not None:
        at = escape(f"{failure.where}: {failure.reason}" if failure.where else failure.reason)
    elif progress is None or state.state == "finished" or not progress.stage:
        at = ""
    else:
        share = f" {progress.done}/{progress.total}" if progress.total else ""
        at = escape(f"{progress.stage} {progress.what}{share}")
    if progress is None:
        return escape(label), state_text, at, "", "", ""
    until = time.time() if state.state == "running" else progress.updated
    stages = str(progress.computed + progress.reused)
    return escape(label), state_text, at, stages, str(progress.computed), f"{until - progress.started:.0f}"


def _tell(cells: Sequence[SweepCell], ended: threading.Event) -> None:
    shown: dict[str, State] = {cell.name: state_of(cell).state for cell in cells}
    named = labels(cells)
    last = False
    while not last:
        last = ended.wait(_EVERY)  # what changed before the end is still reported
        for number, state in enumerate(map(state_of, cells), start=1):
            if state.state == shown[state.cell.name] or state.state == "waiting":
                continue
            shown[state.cell.name] = state.state
            why = f": {state.failure.reason}" if state.failure else ""
            line = f"cell {number} of {len(cells)} {state.state}: {named[state.cell.name]}{why}"
            terminal().print(line, highlight=False, markup=False, soft_wrap=True)
