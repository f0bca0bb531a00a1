"""--help of every command: what it does, two examples that compose, its own groups only; and it is there at once."""

import ast
import os
import re
import resource
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from fusion.runtime.command import compose

ROOT = Path(__file__).parent.parent
SECONDS = 1.5  # of processor time, which other work on the machine does not stretch


def commands() -> dict[str, str]:
    """The modules that call `command("<root>", ...)`, and their roots."""
    found = {}
    for folder in ("fusion", "eval", "ablations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Name(id="command"), args=[ast.Constant(value=str(root)), *_]):
                        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")] = root
    return found


COMMANDS = commands()


@cache
def helped(module: str) -> tuple[str, float]:
    """What --help prints, and the seconds of processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def groups(module: str) -> set[str]:
    before_settings = helped(module)[0].split("Settings and their defaults:")[0]
    return set(re.findall(r"^  (\w+): ", before_settings, re.MULTILINE))


def test_every_command_is_found():
    expected = ["fusion", "fusion.align", "fusion.merge", "eval", "eval.agreement", "ablations"]
    expected += [f"ablations.{name}" for name in ("report", "watch", "model_card", "rates")]
    assert set(expected) <= set(COMMANDS)


@pytest.mark.parametrize("module", sorted(set(COMMANDS) - {"eval.benchmark_data"}))
def test_a_command_without_arguments_says_how_it_is_used(module):
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", helped(module)[0])


@pytest.mark.parametrize("module", COMMANDS)
def test_help_says_what_the_command_does_and_is_there_at_once(module):
    text, seconds = helped(module)
    usage, what, *_ = text.split("\n\n")
    assert usage.startswith(f"python -m {module}")
    assert what.count(".") >= 2 and len(what.splitlines()) <= 3  # two sentences
    assert "Settings and their defaults:" in text
    assert seconds < SECONDS


@pytest.mark.parametrize("module", COMMANDS)
def test_two_examples_are_shown_and_compose(module):
    examples = re.findall(rf"^  python -m {re.escape(module)}(?: .*)?$", helped(module)[0], re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        overrides = [word for word in shlex.split(example)[3:] if word != "-m"]
        if len(overrides) < len(shlex.split(example)[3:]):  # a sweep: its first cell
            overrides = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in overrides]
        assert compose(COMMANDS[module], overrides)


def test_help_lists_the_command_s_own_groups_only():
    assert groups("eval") == {"serve", "benchmark", "judge", "ensembles"}
    assert groups("fusion.align") == {"align"}
    assert groups("fusion.merge") == groups("ablations.watch") == set()
    assert groups("ablations.report") == {"compare"}
    assert {"model", "train", "merge", "experiment"} <= groups("fusion")
    assert not {"judge", "benchmark", "study", "launcher"} & groups("fusion")
    assert {"judge", "merge", "study", "launcher", "tracking", "row"} <= groups("ablations")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("module", ["ablations", "fusion.merge", "eval", "ablations.commands"])
def test_a_reader_that_ends_before_the_help_does_is_no_error(module, unbuffered):
    """As in `--help | head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
