"""One Ctrl-C ends a command within seconds, whatever it waits for.

    with ending_at_once():          # the door of every command
        with before_end(bars.stop):     # what puts the terminal right, or says how to go on
            ...

Python's own way, an exception in the main thread, waits at the end of every pool of threads for work that may take
hours.  Here the process says that it was interrupted, ends every process below it, and exits with status 130.  That
loses nothing: the store, the journals and a sweep's files are made so that `kill -9` at any moment leaves what is
finished.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import psutil

STATUS = 130  # of a command that an interrupt ended, as shells have it
_PATIENCE = 3.0  # seconds in which the processes below may end by themselves
_last_acts: list[Callable[[], None]] = []


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """While the block runs, an interrupt ends this process; outside the main thread, or where interrupts are ignored
    (as under nohup), nothing changes."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def before_end(act: Callable[[], None]) -> Iterator[None]:
    """Let `act` be called when an interrupt ends the process during the block.  It must not wait for other threads."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


def ignored() -> None:
    """Leave interrupts to the process above, which ends this one: a terminal sends them to all of its processes."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _end_by_force)
    for act in reversed(_last_acts[:]):
        with contextlib.suppress(Exception):
            act()
    _say("interrupted: finished work is kept, the same command continues")
    below = _below()
    for process in below:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(below, timeout=_PATIENCE)
    _kill([*below, *_below()])  # the second: what other threads of ours began meanwhile
    os._exit(STATUS)


def _end_by_force(_number: int, _frame: FrameType | None) -> None:
    _kill(_below())
    os._exit(STATUS)


def _below() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended
            process.kill()


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        print(line, file=sys.stderr, flush=True)
