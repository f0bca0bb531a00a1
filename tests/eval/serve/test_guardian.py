"""What the guardian runs never outlives the one who asked for it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.serve import guardian

# Deaf to SIGTERM, like vLLM while it starts, and with a child of its own.
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)']); print('up', flush=True); time.sleep(120)"
)


def guarded(parent: int, code: str) -> subprocess.Popen:
    command = [sys.executable, guardian.__file__, str(parent), sys.executable, "-c", code]
    return subprocess.Popen(command, process_group=0, stdout=subprocess.PIPE, text=True)


def alive(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] not in "ZX" and int(fields[2]) == group:
            return True
    return False


def test_a_command_that_ends_by_itself_gives_its_own_status():
    with guarded(os.getpid(), "raise SystemExit(7)") as process:
        assert process.wait(timeout=20) == 7


@pytest.mark.parametrize("asked", [True, False], ids=["asked to end", "the parent is gone"])
def test_the_whole_group_ends_even_when_it_is_deaf_to_requests(asked):
    with guarded(os.getpid() if asked else 1, STUBBORN) as process:
        if asked:
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)
    deadline = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(process.pid)
