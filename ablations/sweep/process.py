"""The process in which the cells run that a launcher gives to one of its own processes.

It lies below the launcher's process and outlives a cell: what it imported and the servers it keeps up serve the next
one.  When it is killed (out of memory, say), that cell fails and nothing else does.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys

from ablations.sweep.attempt import CellJob, attempt, end_servers
from ablations.sweep.files import fail, log_of, state_of, where_stopped
from fusion.runtime.processes import die_with_parent, processor_settings, signal_name, thread_settings


def run_below(job: CellJob) -> None:
    """Run the cell in the process below this one, which is started anew after it was killed."""
    process = _process()
    assert process.stdin is not None and process.stdout is not None
    try:
        pickle.dump(job, process.stdin)
        process.stdin.flush()
        ended = process.stdout.read(1)
    except BrokenPipeError:
        ended = b""
    if not ended:
        _process.cache_clear()
        fail(job.cell, how_it_ended(process.wait()), where=where_stopped(state_of(job.cell)))


def how_it_ended(status: int) -> str:
    """Why a cell has neither finished nor failed, by the exit status of its process."""
    if status == -signal.SIGKILL:
        return "its process was killed (SIGKILL): by someone, or by the system when memory ran out"
    if status < 0:
        return f"its process was ended by {signal_name(-status)}"
    return f"its process ended by itself with status {status}"


def serve_cells() -> None:
    """Run the cells that come pickled on stdin, and say one byte on stdout after each; what they print goes to their
    logs."""
    said = os.dup(1)
    try:
        while True:
            job = pickle.load(sys.stdin.buffer)
            _logged(job)
            os.write(said, b".")
    except EOFError:
        pass
    finally:
        end_servers()


def _logged(job: CellJob) -> None:
    job.cell.folder.mkdir(parents=True, exist_ok=True)
    with log_of(job.cell).open("ab") as stream:
        for standard in (1, 2):
            os.dup2(stream.fileno(), standard)
    attempt(job)
    sys.stdout.flush()
    sys.stderr.flush()


@functools.cache
def _process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ablations.sweep.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A launcher that gives a cell more cores says so in the environment.
        env={**thread_settings(1), **processor_settings(), **os.environ},
        preexec_fn=die_with_parent,
    )


if __name__ == "__main__":
    serve_cells()
