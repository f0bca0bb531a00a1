"""Servers that outlive an evaluation: the next cell of a sweep loads its checkpoints into what the last one started.

    with Servers() as servers:
        for cell in cells:
            servers.take(pieces, settings, work, logs=directory, say=print)    # calls work in each server's own thread

Each server belongs to one thread from start to end: Linux ends a server when the thread that started it ends.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from eval.serve import Serve, Server, serving
from eval.serve.machine import visible_gpus

T = TypeVar("T")
StartedServer = Callable[[], Server]


class Servers:
    """The servers of one process, each in a thread of its own, until `close`.  Used from one thread at a time."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}  # by place among the settings

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def take(
        self,
        pieces: Sequence[tuple[str, T]],
        settings: Sequence[Serve],
        work: Callable[[T, Serve, StartedServer], None],
        *,
        logs: Path,
        say: Callable[[str], None],
    ) -> None:
        """Give every piece (its architecture, and what `work` is called with) to a server, all servers side by side.

        A server with a piece's architecture is preferred to others, and is started when `work` first asks for it.
        Servers with other settings than these are ended.  After an error no further piece is begun, those under way
        are waited for, and the error is raised.
        """
        lanes = self._chosen(settings, logs)
        for lane in lanes:
            lane.say = say
        waiting = list(pieces)
        running: dict[Future[None], _Lane] = {}
        while waiting or running:
            while waiting and (idle := [lane for lane in lanes if lane not in running.values()]):
                piece, place = assign([architecture for architecture, _ in waiting], [one.architecture for one in idle])
                architecture, what = waiting.pop(piece)
                running[idle[place].begin(architecture, what, work)] = idle[place]
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                if future.exception() is not None:
                    wait(running)
                future.result()

    def make_room(self) -> None:
        """End the servers that hold GPUs, for whatever else wants to compute there, or a port that a judge's server may
        be told to take; a CPU is shared."""
        if self._lanes and (visible_gpus() or any(lane.serve.port is not None for lane in self._lanes.values())):
            self.close()

    def close(self) -> None:
        """End every server.  The object can be used again."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def _chosen(self, settings: Sequence[Serve], logs: Path) -> list[_Lane]:
        for place in [place for place, lane in self._lanes.items() if lane.serve not in settings[place : place + 1]]:
            self._lanes.pop(place).close()
        for place, serve in enumerate(settings):
            if place not in self._lanes:
                self._lanes[place] = _Lane(serve, logs)
        return [self._lanes[place] for place in range(len(settings))]


class _Lane:
    """One server, or none yet, and its thread.  `architecture` is that of the piece it was last needed for."""

    def __init__(self, serve: Serve, logs: Path) -> None:
        self.serve = serve
        self.architecture: str | None = None
        self.say: Callable[[str], None] = print
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._stack = contextlib.ExitStack()
        self._server = starter(serve, self._stack, logs=logs, say=lambda line: self.say(line))

    def begin(self, architecture: str, what: T, work: Callable[[T, Serve, StartedServer], None]) -> Future[None]:
        def started() -> Server:
            self.architecture = architecture
            return self._server()

        return self._thread.submit(work, what, self.serve, started)

    def close(self) -> None:
        self._thread.submit(self._stack.close).result()
        self._thread.shutdown()


def starter(serve: Serve, stack: contextlib.ExitStack, *, logs: Path, say: Callable[[str], None]) -> StartedServer:
    """A server that is started at the first call, returned by every call, and ended with `stack`."""

    @functools.cache
    def started() -> Server:
        logs.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=logs, prefix="serve-"))
        return stack.enter_context(serving(serve, logs=own, say=say))

    return started


def assign(waiting: Sequence[str], idle: Sequence[str | None]) -> tuple[int, int]:
    """Which waiting piece goes to which idle server, as places; both sequences hold architectures, None for no server.

    A server that has the architecture comes first, then the first piece to one not started yet, then to any.
    """
    for piece, wanted in enumerate(waiting):
        if wanted in idle:
            return piece, idle.index(wanted)
    return 0, idle.index(None) if None in idle else 0


@functools.cache
def process_servers() -> Servers:
    """The servers that all evaluations of this process share; the command that runs the process closes them at its
    end.
    """
    return Servers()
