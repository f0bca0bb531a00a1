"""Work side by side in a few threads, of which some waits for other: each thing is made once, by who asks first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")
A = TypeVar("A")


class Lanes:
    """A pool of threads, and what was made in them by name."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._made: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def begin(self, work: Callable[[A], T], what: A) -> Future[T]:
        """Start `work(what)` as soon as a lane is free."""
        return self._pool.submit(work, what)

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, called by whoever asks for `name` first; others wait for it, and get its error too.

        Whoever waits does so for work that is running in another thread, so lanes cannot wait for each other in vain.
        """
        with self._lock:
            first = name not in self._made
            found: Future[T] = self._made.setdefault(name, Future())
        if first:
            try:
                found.set_result(make())
            except BaseException as error:
                found.set_exception(error)
        return found.result()


def results(begun: Iterable[Future[T]]) -> list[T]:
    """All results, once all have ended: one failure, which is raised, does not hide what the others finished."""
    futures = list(begun)
    wait(futures)
    return [future.result() for future in futures]
