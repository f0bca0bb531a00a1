"""Child processes that cannot outlive us, and the settings of threads and processor they run with.

Two busy-waiting thread pools on a small machine run ten times slower than one thread each, so a child gets an explicit
thread count and passive waiting.  A child has its own process group, is asked to end when its parent dies (also by
`kill -9`: Linux delivers the signal), and leaves no grandchildren behind when `ended` is called.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fusion.runtime.interrupt import wait_if_ending

_PR_SET_PDEATHSIG = 1


def thread_settings(threads: int) -> dict[str, str]:
    """Environment variables that hold every numeric library to `threads` threads which sleep while they wait."""
    counts = {
        name: str(threads)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    return {**counts, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "KMP_BLOCKTIME": "0"}


def processor_settings() -> dict[str, str]:
    """Environment variables, to be set before torch and numpy are imported, that keep CPU arithmetic to what every
    Intel processor with AVX2 does alike.

    Each library else picks other kernels for AVX-512; the last bit of a sum then differs, and after 300 steps of
    training so do the answers.  For a pocket model that costs a tenth of the speed.  On another maker's processor MKL
    takes kernels of its own choice: the one setting that it knows there, COMPATIBLE, trains 2.7 times slower.
    """
    newer = ("F", "CD", "_KNL", "_KNM", "_SKX", "_CLX", "_CNL", "_ICL", "_SPR")
    return {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": " ".join(f"AVX512{name}" for name in newer),
    }


def die_with_parent() -> None:
    """Let Linux end this process (SIGTERM) when the thread that started it ends, in whatever way."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def child(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in its own process group with stdout and stderr in `log`; whatever happens, the group is ended."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=cwd,
            process_group=0,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        ended(process)
        wait_if_ending()


class Ending(Protocol):
    """A process that leads a group, as subprocess.Popen and fusion.runtime.nursery have it."""

    @property
    def pid(self) -> int: ...

    def wait(self, timeout: float | None = None) -> int: ...


def ended(process: Ending, *, patience: float = 10.0) -> None:
    """End the process group of `process`: politely, then by force after `patience` seconds."""
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        pass
    deadline = time.monotonic() + patience
    while _group_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def last_lines(log: Path, count: int = 30) -> str:
    """The end of a log, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])


def signal_name(number: int) -> str:
    """SIGTERM for 15; signals without a name of their own by their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _signal_group(process: Ending, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, what)


def _group_alive(process: Ending) -> bool:
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
