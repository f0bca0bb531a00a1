"""A command at a terminal, and Ctrl-C pressed once while it waits for threads and processes that would go on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Two lanes at work, a third piece of work queued; a child that will not end when asked, and one that another lane
# starts while all are being ended.
BUSY = """
import subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fusion.runtime.interrupt import before_end, ending_at_once
from fusion.runtime.processes import child
from fusion.runtime.progress import RunProgress

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
here = Path(sys.argv[1])

def stubborn(name):
    with child([sys.executable, "-c", STUBBORN], log=here / name, environment={}) as process:
        process.wait()

def another():
    while not (here / "said").exists():
        time.sleep(0.01)
    stubborn("late")

with ending_at_once(), RunProgress() as progress, before_end(lambda: (here / "said").touch()):
    with ThreadPoolExecutor(2) as pool, progress.stage("train", "target"):
        for work in (lambda: stubborn("first"), another, lambda: (here / "queued").touch()):
            pool.submit(work)
"""


def test_one_interrupt_ends_threads_and_processes_within_seconds(tmp_path, at_terminal):
    started = at_terminal([sys.executable, "-c", BUSY, str(tmp_path)], cwd=ROOT)
    started.wait_until(lambda: (tmp_path / "first").exists() and "up" in (tmp_path / "first").read_text(), 30)
    status, seconds = started.interrupt()
    assert status == 130
    assert seconds < 6
    assert "interrupted: finished work is kept, the same command continues" in started.said
    assert "Traceback" not in started.said
    assert started.said.rindex("\x1b[?25h") > started.said.rindex("\x1b[?25l")  # the cursor is shown again
    assert (tmp_path / "late").exists() and not (tmp_path / "queued").exists()
    left = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in left.splitlines() if "signal.SIG_IGN" in line and not line.startswith("Z")]


COMMAND = """
import sys, time
from fusion.runtime.command import command
def run(settings):
    print("up", flush=True)
    {work}
command("benchmark_data", run, alone=True)
"""


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(600)",
        "import asyncio; asyncio.run(asyncio.sleep(600))",
        "input()",
        "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK, [2]); time.sleep(600)",  # as loky does
    ],
)
def test_a_command_that_waits_by_itself_is_interrupted_too(tmp_path, at_terminal, work):
    started = at_terminal([sys.executable, "-c", COMMAND.format(work=work)], cwd=ROOT)
    started.wait_until(lambda: "up" in started.said, 60)
    status, seconds = started.interrupt()
    assert (status, "Traceback" in started.said) == (130, False)
    assert seconds < 3


def test_where_interrupts_are_ignored_they_stay_ignored():
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from fusion.runtime.interrupt import ending_at_once\n"
        "with ending_at_once(): signal.raise_signal(signal.SIGINT); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "alive\n"


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_interrupts_are_as_before_when_the_block_is_over(handler):
    """Also where they are ignored, in whichever way pytest itself was started."""
    from fusion.runtime.interrupt import ending_at_once

    outside = signal.signal(signal.SIGINT, handler)
    try:
        with ending_at_once():
            blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert blocked == (handler is not signal.SIG_IGN)
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, outside)


def test_what_fails_because_of_the_interrupt_is_not_shown(tmp_path, at_terminal):
    """The lane learns that its child was ended, and the command would say so and exit with 1."""
    script = """
import sys
from fusion.runtime.command import command
def run(settings):
    import subprocess
    print("up", flush=True)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], check=True)
command("benchmark_data", run, alone=True)
"""
    started = at_terminal([sys.executable, "-c", script], cwd=ROOT)
    started.wait_until(lambda: "up" in started.said, 60)
    status, seconds = started.interrupt()
    assert (status, "Error" in started.said) == (130, False)
    assert seconds < 3
