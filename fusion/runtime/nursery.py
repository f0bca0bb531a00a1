"""Child processes forked from one that has already imported what they need.

    with forked("fusion.train.__main__", [str(job)], log=log, environment=thread_settings(1)) as process:
        status = process.wait()

Importing torch and transformers takes a process five seconds, being forked from one that has them takes it none.  That
one, the nursery, is started with the first child and serves this process for as long as it lives.  It has imported and
done nothing else, and holds no threads, so its children are as new.  The module named has `prepare()`, which imports,
and `main(arguments)`, which works and returns the exit status.

    this process -- socket --> nursery --> attendant, one for each child, which tells us its status --> child

Nothing is left behind: the nursery ends when the socket closes, and Linux ends the others with the one above them.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from fusion.runtime.interrupt import wait_if_ending
from fusion.runtime.processes import die_with_parent, ended, processor_settings, thread_settings

# Numeric libraries read these when they are loaded, so a nursery serves children for which they are the same.
_READ_AT_LOADING = (*thread_settings(1), *processor_settings())
_nurseries: dict[tuple[str | None, ...], _Nursery] = {}
_choosing = threading.Lock()


class NotForked(Exception):
    """The nursery ended before it had forked a child; its last words are in the child's log."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the process that forks children ended with status {status}")
        self.status = status


class Forked:
    """A child of a nursery, to be waited for as a subprocess.Popen is."""

    def __init__(self, pid: int, nursery: subprocess.Popen[bytes], attendant: Connection) -> None:
        self.pid = pid  # of the child and of its process group
        self._nursery = nursery
        self._attendant = attendant
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal.  Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self._status is None:
            if not self._attendant.poll(timeout):
                raise subprocess.TimeoutExpired(f"child {self.pid}", timeout or 0.0)
            try:
                self._status = int(self._attendant.recv())
            except (EOFError, OSError):  # the attendant was killed, and its child with it
                self._status = _status_of(self._nursery)
        return self._status


@contextlib.contextmanager
def forked(module: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> Iterator[Forked]:
    """Run `main(arguments)` of `module` in its own process group with stdout and stderr in `log`; whatever happens, the
    group is ended.

    The child sees our environment and working directory of now, and `environment`.  Raises NotForked.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    everything = {**os.environ, **environment}
    with log.open("ab") as stream:
        nursery = _nursery(module, stream.fileno(), everything)
        ours, its = Pipe()
        with ours:
            with its, contextlib.suppress(OSError):
                socket.send_fds(nursery.socket, [b"."], [stream.fileno(), its.fileno()])
            try:
                ours.send((list(arguments), everything, os.getcwd()))
                process = Forked(ours.recv(), nursery.process, ours)
            except (EOFError, OSError) as error:
                raise NotForked(_status_of(nursery.process)) from error
            try:
                yield process
            finally:
                ended(process)
                wait_if_ending()


class _Nursery:
    def __init__(self, module: str, log: int, environment: Mapping[str, str]) -> None:
        self.socket, its = socket.socketpair()
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fusion.runtime.nursery", module],
                stdin=its.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )
        atexit.register(self.close)

    def close(self) -> None:
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5.0)


def _nursery(module: str, log: int, environment: Mapping[str, str]) -> _Nursery:
    """The nursery for such a child, started with its output in `log` where there is none, or none alive."""
    kind = (module, *map(environment.get, _READ_AT_LOADING))
    with _choosing:
        if kind not in _nurseries or _nurseries[kind].process.poll() is not None:
            _nurseries[kind] = _Nursery(module, log, environment)
        return _nurseries[kind]


def _status_of(nursery: subprocess.Popen[bytes]) -> int:
    """How the nursery ended; SIGKILL, by which only the child's attendant can have ended, where it has not."""
    try:
        return nursery.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def serve(module: str) -> int:
    """The nursery's whole life, and in each process forked from it the child's."""
    work = importlib.import_module(module)
    work.prepare()
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # attendants need nobody to wait for them
    orders = socket.socket(fileno=sys.stdin.fileno())
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, 1, 2)
        if not order:
            return 0
        if os.fork() == 0:
            orders.detach()
            arguments = _attended(*descriptors)
            return int(work.main(arguments))
        for descriptor in descriptors:
            os.close(descriptor)


def _attended(log: int, told: int) -> list[str]:
    """In the attendant: fork the child, tell its status, and end.  In the child: the arguments of its work."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):  # 0 was the nursery's socket
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    with Connection(told) as asker:
        arguments, environment, directory = asker.recv()
        child = os.fork()
        if child:
            with contextlib.suppress(OSError):
                os.setpgid(child, child)
            asker.send(child)
            asker.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            os._exit(0)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    die_with_parent()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    return list(arguments)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1]))
