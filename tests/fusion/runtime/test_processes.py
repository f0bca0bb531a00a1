from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fusion.runtime.processes import child, last_lines, processor_settings, thread_settings

SLEEPS_WITH_A_CHILD = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    " print('up', flush=True); time.sleep(60)"
)


def group_members(group: int) -> int:
    found = subprocess.run(["ps", "-eo", "pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()[1:]]
    return sum(1 for pgid, state in rows if int(pgid) == group and not state.startswith("Z"))


def wait_for(condition, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_leaving_the_block_ends_the_child_and_its_children(tmp_path):
    log = tmp_path / "log"
    with child([sys.executable, "-c", SLEEPS_WITH_A_CHILD], log=log, environment=thread_settings(1)) as process:
        assert wait_for(lambda: "up" in last_lines(log))
        assert group_members(process.pid) == 2
    assert group_members(process.pid) == 0


def test_killing_the_parent_ends_the_child(tmp_path):
    log = tmp_path / "log"
    program = f"""
import sys, time
from pathlib import Path
from fusion.runtime.processes import child
with child([sys.executable, "-c", "import time; time.sleep(60)"], log=Path({str(log)!r}), environment={{}}) as process:
    print(process.pid, flush=True)
    time.sleep(60)
"""
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    group = int(parent.stdout.readline())
    assert group_members(group) == 1
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: group_members(group) == 0)


def test_the_log_of_a_child_that_died_is_kept_for_the_message(tmp_path):
    log = tmp_path / "log"
    with child([sys.executable, "-c", "print('a'); print('b'); 1/0"], log=log, environment={}) as process:
        assert process.wait() == 1
    assert last_lines(log, 1) == "ZeroDivisionError: division by zero"


ARITHMETIC = """
import sys
from fusion.runtime.command import command
assert not {"numpy", "torch"} & sys.modules.keys()
def run(settings):
    import torch
    from numpy._core._multiarray_umath import __cpu_dispatch__ as choices, __cpu_features__ as present
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT")
    assert not [name for name in choices if present[name] and name.startswith("AVX512")]
    print("arithmetic as everywhere")
command("benchmark_data", run, alone=True)
"""


def test_a_commands_arithmetic_does_not_depend_on_what_its_processor_can_do(tmp_path):
    outside = {name: value for name, value in os.environ.items() if name not in processor_settings()}
    found = subprocess.run([sys.executable, "-c", ARITHMETIC], capture_output=True, text=True, env=outside)
    assert found.stdout == "arithmetic as everywhere\n", found.stderr
