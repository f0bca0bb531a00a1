"""What a run shows while it works: one line for each stage that was computed, a bar for each that is running."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.interrupt import before_end
from fusion.runtime.outlook import Outlook
from fusion.runtime.stage import Stage, Unfinished

# The stages of a run by their place in the store, none before what it is made from.
CHAIN = (
    "data",
    "initialise",
    "pretrain",
    "represent",
    "align",
    "fuse",
    "train",
    "merge",
    "answers",
    "perplexity",
    "measured",
    "verdicts",
)


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """An artifact that a run made or reused, and what it used it for: a model, or a model's answers to a benchmark."""

    stage: str
    what: str
    key: str
    path: str
    # Where its code began, and the digest of that code.
    modules: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class RunningStage:
    """A stage under way, `done` of `total` units of it; total None where they are not counted."""

    stage: str
    what: str
    done: int
    total: int | None


class RunProgress:
    """Shows stages side by side; safe to use from several threads.

    With an `outlook` it says how many stages are left and about how long they take.  `computed` and `reused` count
    finished stages.  A stage that was reused is counted and not shown.  `failed_in` is the stage that raised first.
    """

    def __init__(self, console: Console | None = None, outlook: Outlook | None = None) -> None:
        self.console = console or terminal()
        self._outlook = outlook or Outlook()
        self.computed = 0
        self.reused = 0
        self.failed_in = ""
        self._finished: list[StageRecord] = []
        self._noted: set[str] = set()
        self._lock = threading.Lock()
        self._shown = contextlib.ExitStack()
        self._whole: TaskID | None = None
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> RunProgress:
        if self._outlook.total:
            self._whole = self._bars.add_task("all stages", total=self._outlook.total, note="")
        self._bars.start()
        self._shown.enter_context(before_end(self._bars.stop))
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()
        self._bars.stop()

    @contextlib.contextmanager
    def stage(self, stage: str, what: str) -> Iterator[StageProgress]:
        """Show `stage` of the model `what` until the block ends; the block says `finished(artifact)`."""
        task = self._bars.add_task(f"{stage:<10} {what}", total=None, stage=stage, what=what, note="")
        shown = StageProgress(self._bars, task)
        started = time.monotonic()
        try:
            yield shown
        except Unfinished:  # its records are there, and it is asked again another time
            raise
        except BaseException:
            self.failed_in = self.failed_in or f"{stage} {what}"
            raise
        finally:
            self._bars.remove_task(task)
        artifact = shown.artifact
        seconds = time.monotonic() - started
        if artifact is not None:
            self._look_ahead(stage, what, seconds, reused=artifact.reused)
        with self._lock:
            if artifact is not None:
                record = StageRecord(
                    stage=artifact.stage,
                    what=what,
                    key=artifact.key,
                    path=str(artifact.path),
                    modules=tuple(artifact.manifest.get("modules", ())),
                    code=artifact.manifest.get("code", ""),
                )
                self._finished.append(record)
            if artifact is not None and artifact.reused:
                self.reused += 1
                return
            self.computed += 1
        line = f"  {stage:<10} {what:<28} {seconds:6.1f} s   {self._outlook.text()}"
        self.console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)

    def _look_ahead(self, stage: str, what: str, seconds: float, *, reused: bool) -> None:
        self._outlook.ended(stage, what, seconds=seconds, reused=reused)
        if self._whole is not None:
            self._bars.update(self._whole, completed=self._outlook.done, note=self._outlook.left())

    def produce(self, store: Store, stage: Stage) -> Artifact:
        """What `stage` leaves in `store`, made while a bar shows how far it is, or found from before."""
        with self.stage(stage.name, stage.what) as shown:
            artifact = store.produce(stage, shown.advance)
            shown.finished(artifact)
        if artifact.differs:
            self.note_once(
                f"reused from another environment ({', '.join(artifact.differs)}): reuse=same_versions computes again"
            )
        return artifact

    def running(self) -> list[RunningStage]:
        """The stages under way, the one begun last at the end."""
        return [
            RunningStage(
                stage=bar.fields["stage"],
                what=bar.fields["what"],
                done=int(bar.completed),
                total=None if bar.total is None else int(bar.total),
            )
            for bar in self._bars.tasks
            if bar.id != self._whole
        ]

    def records(self) -> Sequence[StageRecord]:
        """Every artifact that was made or reused, in the order of the chain."""
        with self._lock:
            return sorted(self._finished, key=lambda record: place_in_chain(record.stage))

    def note(self, text: str) -> None:
        """A sentence the user should see, above the bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def note_once(self, text: str) -> None:
        """The same, but not again in this run."""
        with self._lock:
            if text in self._noted:
                return
            self._noted.add(text)
        self.note(text)


@functools.cache
def terminal() -> Console:
    """The one console of stderr: what several parts of a command show at a time stays in order on it."""
    return Console(stderr=True)


def place_in_chain(stage: str) -> int:
    """The rank of a stage in the chain; one that is not named there comes last."""
    return CHAIN.index(stage) if stage in CHAIN else len(CHAIN)


class StageProgress:
    """The bar of one running stage."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self.artifact: Artifact | None = None

    def advance(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is shown behind the bar."""
        self._bars.update(self._task, completed=done, total=total, note=note)

    def finished(self, artifact: Artifact) -> None:
        """What the stage made, or found from before."""
        self.artifact = artifact
