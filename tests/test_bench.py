"""The benchmarks' frame, and the reference that the compiled DP is held against there."""

import subprocess
import sys
from pathlib import Path

from bench.alignment import levenshtein
from bench.row import by_turns, spelled

ROOT = Path(__file__).parent.parent


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_group_prints_its_rows_beside_their_bars() -> None:
    done = bench("disk")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("at most 60 bytes") == 2
    assert done.stdout.count("reached") == 2


def test_an_unknown_group_is_refused_with_the_nearest_name() -> None:
    done = bench("alignmnt")
    assert done.returncode == 2
    assert done.stderr == "refused: there is no group 'alignmnt': did you mean 'alignment'?\n"


def test_help_names_the_groups() -> None:
    assert "groups: alignment, disk, batches, loss, merging, serving" in bench("--help").stdout


def test_the_plain_edit_distance() -> None:
    # kitten -> sitten -> sittin -> sitting; three letters in; four letters out; nothing to do.
    assert levenshtein("kitten", "sitting") == 3
    assert levenshtein("", "abc") == 3
    assert levenshtein("word", "") == 4
    assert levenshtein("same", "same") == 0


def test_functions_are_timed_by_turns_after_one_round_that_does_not_count() -> None:
    called: list[str] = []
    medians = by_turns(lambda: called.append("a"), lambda: called.append("b"), repeats=2)
    assert called == ["a", "b"] * 3
    assert len(medians) == 2


def test_seconds_get_a_fitting_unit() -> None:
    assert [spelled(s) for s in (2.0, 0.0125, 3.4e-5, 2e-8)] == ["2 s", "12.5 ms", "34 µs", "20 ns"]
