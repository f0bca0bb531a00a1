"""The script `fusechat-lab`: every command under its module's name, as `python -m` runs it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.commands import COMMANDS, module_of, usage
from fusion.runtime.configure import Refusal

ROOT = Path(__file__).parents[2]
# What a child process is started by, and no command of a user's.
CHILDREN = {
    "ablations.sweep.process",
    "fusion.runtime.nursery",
    "fusion.runtime.templates.render_child",
    "fusion.train",
}


def runnable() -> set[str]:
    """The modules that do something when they are run."""
    found = set()
    for folder in ("fusion", "eval", "ablations"):
        for path in (ROOT / folder).rglob("*.py"):
            tests = [ast.unparse(node.test) for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
            if "__name__ == '__main__'" in tests:
                found.add(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"))
    return found


def script(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from ablations.commands import main; main()"
    command = [sys.executable, "-P", "-c", start, *arguments]
    return subprocess.run(command, cwd=cwd, env={**os.environ}, capture_output=True, text=True)


def test_every_command_is_listed_and_no_other():
    guardian = {name for name in runnable() if name.startswith("eval.serve.")}  # of servers
    assert set(COMMANDS) == runnable() - CHILDREN - guardian


def test_the_last_part_of_a_name_is_enough_and_means_one_command():
    short = [name.rsplit(".", 1)[-1] for name in COMMANDS]
    assert len(set(short)) == len(short)
    assert {module_of(one) for one in short} == {module_of(name) for name in COMMANDS} == set(COMMANDS)


def test_an_unknown_command_is_refused_with_the_nearest():
    with pytest.raises(Refusal, match="did you mean 'fusion.merge'"):
        module_of("fusion.mrge")
    ended = script("reprot")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "refused: there is no command 'reprot': did you mean 'report'?\n"


@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_help_says_what_there_is(asked):
    ended = script(asked)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, usage() + "\n", "")


def test_without_a_command_it_says_the_same_and_is_refused():
    ended = script()
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", usage() + "\n")


def test_help_of_a_command_is_that_of_its_module():
    asked = subprocess.run(
        [sys.executable, "-m", "ablations.watch", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert script("watch", "--help").stdout == asked.stdout


def test_a_script_of_the_caller_s_is_not_taken_for_ours(tmp_path):
    (tmp_path / "eval.py").write_text("raise SystemExit('hers')\n")
    ended = script("eval", "benchmark=mt_bench", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, "refused: out is missing: give it as out=VALUE\n")
