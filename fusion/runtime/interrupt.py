"""One Ctrl-C ends a command within seconds, whatever it waits for.

    with ending_at_once():          # the door of every command
        with before_end(bars.stop):     # what puts the terminal right, or says how to go on
            ...

Python's own way, an exception in the main thread, waits at the end of every pool of threads for work that may take
hours.  Here a thread of its own waits for the interrupt; it says so, ends every process below this one, and exits with
status 130.  That loses nothing: the store, the journals and a sweep's files are made so that `kill -9` at any moment
leaves what is finished.  Interrupts are blocked in all other threads and, since processes inherit that, in all
processes below: a terminal sends them to each, and one end is enough.  A library that starts processes may unblock them
again, so that the main thread gets one after all, which then does the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import psutil

STATUS = 130  # of a command that an interrupt ended, as shells have it
_PATIENCE = 3.0  # seconds in which the processes below may end by themselves
_LOOK = 0.5  # seconds between two looks at whether the block is over
_last_acts: list[Callable[[], None]] = []
_ending = threading.Lock()  # taken by the first who ends the process, and kept


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """While the block runs, an interrupt ends this process; outside the main thread, or where interrupts are ignored
    (as under nohup), nothing changes.  To be entered before other threads are started."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, lambda number, frame: _end())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    over = threading.Event()
    threading.Thread(target=_wait, args=(over,), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        wait_if_ending()  # what failed since then did so because of it
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def before_end(act: Callable[[], None]) -> Iterator[None]:
    """Let `act` be called when an interrupt ends the process during the block: to put the terminal right, or to say how
    to go on."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


def wait_if_ending() -> None:
    """Wait for the end of this process where an interrupt is ending it: for a thread whose child was just ended, which
    would else go on to what is queued."""
    if _ending.locked():
        threading.Event().wait()


def leave_to_the_process_above() -> None:
    """Ignore interrupts in this process and those it starts, for one that a library started with them unblocked."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wait(over: threading.Event) -> None:
    while not over.is_set():
        if signal.sigtimedwait({signal.SIGINT}, _LOOK) is not None:
            _end()


def _end() -> None:
    if not _ending.acquire(blocking=False):
        threading.Event().wait()
    for act in reversed(_last_acts[:]):
        with contextlib.suppress(Exception):
            act()
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        print("interrupted: finished work is kept, the same command continues", file=sys.stderr, flush=True)
    with open(os.devnull, "w") as nowhere:  # other threads may yet say that what they waited for has failed
        for standard in (1, 2):
            os.dup2(nowhere.fileno(), standard)
    below = _below()
    for process in below:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(below, timeout=_PATIENCE)
    for process in [*below, *_below()]:  # the second: what other threads began meanwhile
        with contextlib.suppress(psutil.Error):  # it has ended
            process.kill()
    os._exit(STATUS)


def _below() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found
