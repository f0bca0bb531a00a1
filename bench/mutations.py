"""python -m bench.mutations [ID ...]: whether the tests notice small faults, each put into a copy of the project.

`tests/mutations.toml` lists the faults: a file, a text that stands in it once, what takes its place, and the tests that
must then fail.  The project's own files are never touched: all of them are copied to a temporary folder, where the
tests run once as they are and then once for each fault.  Exit status 1: a fault survived.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.runtime.configure import Refusal, nearest, typed
from fusion.runtime.processes import thread_settings

ROOT = Path(__file__).parent.parent
LISTED = ROOT / "tests" / "mutations.toml"
_PASSED, _FAILED = 0, 1  # pytest's exit statuses; all others mean that it could not run the tests


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """`old` stands exactly once in `file`, a path below the root; with `new` in its place one of `tests` must fail."""

    id: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, text: str) -> str:
        """The file's text with the fault in it.  Raises Refusal where `old` does not stand in it exactly once."""
        if (count := text.count(self.old)) != 1:
            raise Refusal(
                f"mutation '{self.id}': its old text stands in {self.file} {count} times and should once: write it anew"
                " after the code"
            )
        return text.replace(self.old, self.new)


def listed(path: Path = LISTED) -> list[Mutation]:
    """The mutations of the list, in its order."""
    entries = tomllib.loads(path.read_text())["mutation"]
    return [typed(entry, Mutation, at=f"{path.name}: {entry.get('id')}") for entry in entries]


def survivors(mutations: Sequence[Mutation], root: Path = ROOT) -> list[str]:
    """The ids of the mutations that no test of theirs notices; prints a line for each mutation as it is tried.

    Raises Refusal when the tests fail without any mutation, or cannot be run.
    """
    found = []
    for mutation in mutations:  # all of them, before the first minutes are spent
        mutation.mutated((root / mutation.file).read_text())
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Path(folder)
        _copy(root, copy)
        failed = _failure(copy, sorted({test for mutation in mutations for test in mutation.tests}))
        if failed:
            raise Refusal(f"the tests fail in a copy of {root} without a mutation, so they can show nothing:\n{failed}")
        for mutation in mutations:
            file = copy / mutation.file
            before = file.read_text()
            started = time.monotonic()
            file.write_text(mutation.mutated(before))
            failed = _failure(copy, mutation.tests)
            file.write_text(before)
            if not failed:
                found.append(mutation.id)
            said = "caught" if failed else "SURVIVED"
            print(f"{said:8}  {mutation.id:22}  {mutation.file:36}  {time.monotonic() - started:4.0f} s", flush=True)
    return found


def _copy(root: Path, to: Path) -> None:
    """What git has and what it would add: no environment, no artifacts."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, to / name)


def _failure(copy: Path, tests: Sequence[str]) -> str:
    """What pytest says of the first test that fails in the copy, empty when all pass.

    Python finds the copy's modules before an installed project's, and neither byte code nor what numba compiled is
    taken from elsewhere; if it were, mutations would be said to survive.
    """
    settings = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(copy / ".numba")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env={**os.environ, **thread_settings(1), **settings},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (_PASSED, _FAILED):
        raise Refusal(f"pytest cannot run {' '.join(tests)}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return done.stdout[-3000:] if done.returncode == _FAILED else ""


def main(arguments: Sequence[str]) -> int:
    """Try the mutations named in `arguments`, or all; `--help` says what this is."""
    if "--help" in arguments:
        print(__doc__)
        return 0
    known = {mutation.id: mutation for mutation in listed()}
    for name in arguments:
        if name not in known:
            raise Refusal(f"there is no mutation '{name}': {nearest(name, known)}")
    chosen = [known[name] for name in arguments or known]
    survived = survivors(chosen)
    print(
        f"{len(chosen) - len(survived)} of {len(chosen)} caught"
        + (f"; SURVIVED: {', '.join(survived)}" if survived else "")
    )
    return 1 if survived else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refusal as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(2)
