"""Children forked from a process that has their imports: alike to started ones in all that a caller can see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from fusion.runtime.nursery import Forked, NotForked, forked
from fusion.runtime.processes import last_lines

ROOT = Path(__file__).parents[3]
WORK = """
import os, sys, time
PREPARED = []
def prepare():
    PREPARED.append(os.getpid())
def main(arguments):
    what, *rest = arguments
    if what == "say":
        print(os.getpid(), PREPARED[0], os.getpgrp(), os.getcwd(), *map(os.environ.get, rest), flush=True)
    if what == "sleep":
        print("up", flush=True)
        time.sleep(60)
    if what == "fail":
        raise RuntimeError("as it should")
    if what == "below":
        import subprocess
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("up", flush=True)
        time.sleep(60)
    return int(rest[0]) if what == "end" else 0
"""


@pytest.fixture
def work(tmp_path, request, monkeypatch) -> str:
    """A module of this test's own, so that no other test's nursery has it."""
    name = f"work_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return name


def running(work: str, tmp_path: Path, *arguments: str, log: str = "log"):
    return forked(work, arguments, log=tmp_path / log, environment={})


def wait_for(condition, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def ended(*pids: int) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def said(work: str, tmp_path: Path, *names: str) -> list[str]:
    with running(work, tmp_path, "say", *names) as process:
        assert process.wait() == 0
    return last_lines(tmp_path / "log", 1).split()


def test_imports_are_done_once_and_each_child_is_a_new_process_in_a_group_of_its_own(work, tmp_path):
    first, second = said(work, tmp_path), said(work, tmp_path)
    assert first[1] == second[1]  # who prepared
    assert len({first[0], second[0], first[1]}) == 3
    assert first[0] == first[2] and second[0] == second[2]


def test_a_child_sees_the_environment_and_the_directory_of_when_it_was_asked_for(work, tmp_path, monkeypatch):
    monkeypatch.setenv("TAKEN", "away")
    assert said(work, tmp_path, "TAKEN", "GIVEN")[-2:] == ["away", "None"]
    monkeypatch.delenv("TAKEN")
    monkeypatch.setenv("GIVEN", "x" * 100_000)
    monkeypatch.chdir(tmp_path)
    assert said(work, tmp_path, "TAKEN", "GIVEN")[3:] == [str(tmp_path), "None", "x" * 100_000]


@pytest.mark.parametrize(("arguments", "status"), [(("end", "0"), 0), (("end", "7"), 7), (("fail",), 1)])
def test_its_status_is_told_and_its_error_is_in_its_log(work, tmp_path, arguments, status):
    with running(work, tmp_path, *arguments) as process:
        assert process.wait() == status
        assert process.wait(timeout=0) == status
    assert ("RuntimeError: as it should" in last_lines(tmp_path / "log")) == (arguments == ("fail",))


def test_waiting_ends_after_the_time_given(work, tmp_path):
    with running(work, tmp_path, "sleep") as process, pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.05)


def test_leaving_the_block_ends_the_child_and_what_it_started(work, tmp_path):
    with running(work, tmp_path, "below") as process:
        assert wait_for(lambda: "up" in last_lines(tmp_path / "log"))
        (below,) = psutil.Process(process.pid).children()
    assert ended(process.pid, below.pid)


def test_two_run_at_a_time_and_only_the_one_that_is_killed_ends(work, tmp_path):
    with running(work, tmp_path, "sleep", log="a") as one, running(work, tmp_path, "end", "3", log="b") as two:
        assert two.wait() == 3
        os.kill(one.pid, signal.SIGKILL)
        assert one.wait() == -signal.SIGKILL


def test_whoever_asks_first_from_however_many_threads_there_is_one_nursery(work, tmp_path):
    found = []

    def ask(number: int) -> None:
        with running(work, tmp_path, "say", log=f"log-{number}") as process:
            process.wait()
        found.append(last_lines(tmp_path / f"log-{number}", 1).split()[1])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


@pytest.mark.parametrize("killed", ["nursery", "attendant"])
def test_what_is_above_a_child_is_killed_and_so_is_the_child_and_the_next_one_runs(work, tmp_path, killed):
    with running(work, tmp_path, "sleep") as process:
        assert wait_for(lambda: "up" in last_lines(tmp_path / "log"))
        attendant = psutil.Process(process.pid).parent()
        assert attendant is not None
        (attendant if killed == "attendant" else attendant.parent()).kill()
        assert process.wait() == -signal.SIGKILL
        assert wait_for(lambda: ended(process.pid, attendant.pid))
    assert said(work, tmp_path)


def test_a_module_that_cannot_be_imported_is_told_with_the_log(tmp_path):
    with pytest.raises(NotForked) as told, forked("fusion.nowhere", [], log=tmp_path / "log", environment={}):
        pass
    assert told.value.status == 1
    assert "No module named 'fusion.nowhere'" in last_lines(tmp_path / "log")


def test_whoever_asked_is_killed_and_nothing_is_left(work, tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from fusion.runtime.nursery import forked
with forked({work!r}, ["sleep"], log=Path({str(tmp_path / "log")!r}), environment={{}}) as process:
    print(process.pid, flush=True)
    time.sleep(60)
"""
    asking = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    parent = subprocess.Popen([sys.executable, "-c", program], env=asking, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    chain = [pid, *(above.pid for above in psutil.Process(pid).parents()[:2])]
    assert parent.pid not in chain and not ended(*chain)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: all(ended(one) for one in chain))


def test_a_program_that_ends_leaves_no_nursery(work, tmp_path):
    program = f"""
from pathlib import Path
import psutil
from fusion.runtime.nursery import forked
with forked({work!r}, ["end", "0"], log=Path({str(tmp_path / "log")!r}), environment={{}}) as process:
    process.wait()
print(*(child.pid for child in psutil.Process().children()))
"""
    asking = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    found = subprocess.run([sys.executable, "-c", program], env=asking, capture_output=True, text=True, check=True)
    (nursery,) = map(int, found.stdout.split())
    assert not psutil.pid_exists(nursery)
    assert not found.stderr


def test_the_nursery_of_training_holds_no_threads_when_it_forks(tmp_path):
    """A lock that another thread holds at a fork is never released in the child."""
    with forked("fusion.train.__main__", ["--help"], log=tmp_path / "log", environment={}) as process:
        assert isinstance(process, Forked)
        nursery = psutil.Process(process.pid).parent().parent()
        assert any("fusion.train.__main__" in part for part in nursery.cmdline())
        assert nursery.num_threads() == 1
        assert process.wait() == 0
    assert "The training child" in (tmp_path / "log").read_text()
