from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ablations.regression.scores import compare, read_scores, write_baseline
from eval.report.tables import SCORE_COLUMNS
from fusion.runtime.configure import Refusal

ROOT = Path(__file__).parents[3]


def table(*rows: tuple[str, str, float | None, float | None, float | None]) -> pd.DataFrame:
    records = [
        {
            "model": model,
            "group": "Merged",
            "benchmark": "mt_bench",
            "metric": metric,
            "slice": "all",
            "value": value,
            "low": low,
            "high": high,
            "n": 80,
            "unscored": 0,
        }
        for model, metric, value, low, high in rows
    ]
    return pd.DataFrame(records, columns=SCORE_COLUMNS)


BASELINE = table(
    ("sce", "rating", 7.0, 6.5, 7.5), ("ties", "rating", 6.0, 5.5, 6.5), ("sce", "standard_error", 100, None, None)
)


@pytest.mark.parametrize(
    ("sce", "ties", "expected"),
    [
        (7.0, 6.0, []),
        (6.5, 6.5, [("within", "sce"), ("within", "ties")]),  # the bounds belong to the interval
        (6.4, 6.6, [("regressed", "sce"), ("improved", "ties")]),
        (None, 6.0, [("unscored", "sce")]),
    ],
)
def test_a_metric_is_told_by_whether_it_left_its_kept_interval_and_on_which_side(sce, ties, expected):
    scores = table(
        ("sce", "rating", sce, 1, 9), ("ties", "rating", ties, 1, 9), ("sce", "standard_error", 5, None, None)
    )
    assert [(entry.kind, entry.model) for entry in compare(scores, BASELINE)] == expected


def test_leaving_the_interval_fails_on_either_side_and_moving_inside_does_not():
    kinds = {}
    for value in (6.4, 7.6, 7.1):
        (moved,) = compare(table(("sce", "rating", value, 1, 9)), table(("sce", "rating", 7.0, 6.5, 7.5)))
        kinds[moved.kind] = moved.fails
    assert kinds == {"regressed": True, "improved": True, "within": False}


@pytest.mark.parametrize(
    ("metric", "up", "down"),
    [
        ("pairwise_losses", "regressed", "improved"),
        ("perplexity,none", "regressed", "improved"),
        ("average_length", "shifted", "shifted"),
        ("win_rate", "improved", "regressed"),
    ],
)
def test_more_is_not_better_for_every_metric(metric, up, down):
    kept = table(("sce", metric, 10, 8, 12))
    kinds = [compare(table(("sce", metric, value, 0, 99)), kept)[0].kind for value in (13, 7)]
    assert kinds == [up, down]


def test_a_number_without_an_interval_must_not_move_at_all():
    kept = table(("sce", "win_rate", 50.0, None, None))
    assert compare(table(("sce", "win_rate", 50.0, None, None)), kept) == []
    (moved,) = compare(table(("sce", "win_rate", 50.1, None, None)), kept)
    assert (moved.kind, str(moved)[-24:]) == ("improved", "none] -> 50.100 (+0.100)")


def test_a_missing_row_fails_and_a_new_one_does_not():
    scores = table(
        ("sce", "rating", 7.0, 6, 8), ("varm", "rating", 9.0, 8, 10), ("ties2", "standard_error", 1, None, None)
    )
    moved = compare(scores, BASELINE)
    assert [(entry.kind, entry.model, entry.fails) for entry in moved] == [
        ("missing", "ties", True),
        ("new", "varm", False),
    ]


def test_a_baseline_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(BASELINE, path)
    assert compare(read_scores(path), BASELINE) == []
    assert len(path.read_text().splitlines()) == len(BASELINE) + 2


def test_the_command_ends_with_1_on_a_regression_and_says_what_moved(tmp_path):
    write_baseline(BASELINE, tmp_path / "baseline.json")
    table(("sce", "rating", 2.0, 1, 3), ("ties", "rating", 6.0, 5, 7)).to_csv(tmp_path / "scores.csv", index=False)
    command = [
        sys.executable,
        "-m",
        "ablations.regression",
        f"scores={tmp_path}/scores.csv",
        f"baseline={tmp_path}/baseline.json",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "regressed  sce mt_bench rating all: 7.000 [6.500, 7.500] -> 2.000 (-5.000)" in ended.stdout
    assert "which one changed first cannot be said" in ended.stdout
    assert ended.stdout.splitlines()[-2:] == [
        f"page: {tmp_path}/regression.md",
        "failed: 1 of 3 metrics left their intervals",
    ]
    assert ended.stderr == f"next: {shlex.join(['python', *command[1:], 'update=true'])}\n"


def test_a_missing_baseline_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(Refusal, match="make eval UPDATE=1"):
        read_scores(tmp_path / "none.json")
