"""What a run shows while it works: one line for each stage that was computed, a bar for each that is running."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Advance(Protocol):
    """Told how much of a stage is done."""

    def __call__(self, done: int, total: int) -> None: ...


class RunProgress:
    """Shows stages side by side; safe to use from several threads.

    `computed` and `reused` count finished stages.  A stage that was reused is counted and not shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.computed = 0
        self.reused = 0
        self._lock = threading.Lock()
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextlib.contextmanager
    def stage(self, stage: str, what: str) -> Iterator[StageProgress]:
        """Show `stage` of the model `what` until the block ends; the block says `finished(reused)`."""
        task = self._bars.add_task(f"{stage:<10} {what}", total=None)
        shown = StageProgress(self._bars, task)
        started = time.monotonic()
        try:
            yield shown
        finally:
            self._bars.remove_task(task)
        with self._lock:
            if shown.reused:
                self.reused += 1
                return
            self.computed += 1
        self.console.print(f"  {stage:<10} {what:<28} {time.monotonic() - started:6.1f} s", highlight=False)

    def note(self, text: str) -> None:
        """A sentence the user should see, above the bars."""
        self.console.print(text, highlight=False)


class StageProgress:
    """The bar of one running stage."""

    def __init__(self, bars: Progress, task: int) -> None:
        self._bars = bars
        self._task = task
        self.reused = False

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` units are finished."""
        self._bars.update(self._task, completed=done, total=total)  # type: ignore[arg-type]

    def finished(self, *, reused: bool) -> None:
        """Whether the result was found from before."""
        self.reused = reused
