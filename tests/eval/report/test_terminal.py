"""The leaderboard on terminals of different widths: what does not fit goes into a table below, and nothing is cut."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from eval.records import ItemScore
from eval.report.tables import scores_table
from eval.report.terminal import show
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow

UNCERTAINTY = Uncertainty()
SLICES = ("all", "turn1", "turn2")


def model(name: str, *, gain: float = 1.5) -> list[ScoredModel]:
    items = tuple(
        ItemScore(
            benchmark="mt_bench", metric="rating", question_id=str(i), turn=t, category="c", value=4 + i % 3 + gain
        )
        for i in range(12)
        for t in (1, 2)
    )
    rows = tuple(
        MetricRow(benchmark="mt_bench", metric="rating", slice=part, value=5 + gain, n=12, unscored=0)
        for part in SLICES
    )
    rated = ScoredModel(model=name, group="Merged", benchmark="mt_bench", metrics=rows, items=items)
    won = tuple(replace(item, benchmark="alpaca_eval", metric="win_rate", value=0.3 + gain / 10) for item in items[::2])
    rate = MetricRow(benchmark="alpaca_eval", metric="win_rate", slice="all", value=30 + 10 * gain, n=12, unscored=0)
    return [rated, replace(rated, benchmark="alpaca_eval", metrics=(rate,), items=won)]


@pytest.mark.parametrize("columns", [48, 80, 200])
@pytest.mark.parametrize("name", ["sce", "a-merge-of-many-words (align=byte_span, fuse=average_ce)", "日本語" * 9])
def test_at_any_width_every_value_and_difference_is_whole(columns, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    show(scores_table([*model("pivot", gain=0), *model(name)], uncertainty=UNCERTAINTY), tmp_path)
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    table = said[: said.index("† differs")]
    assert table.count("6.50 +1.50†") == len(SLICES)
    assert table.count("45.0 +15.0†") == 1
    assert "…" not in table
    assert max(map(cell_len, table.splitlines())) <= columns
    names = "".join(re.split("[│┼]", line)[0].strip() for line in table.splitlines())
    assert name.replace(" ", "") in names.replace(" ", "")


def test_a_name_with_markup_and_escapes_is_shown_and_sets_nothing(tmp_path, capsys):
    name = "[bold red]x[/] \x1b]0;owned\x07"
    show(scores_table([*model("pivot", gain=0), *model(name)], uncertainty=UNCERTAINTY), tmp_path)
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said
    assert "[bold red]x[/] ␛]0;owned␇" in said


def test_it_ends_with_what_was_found_the_page_and_the_next_command(tmp_path, capsys):
    table = scores_table([*model("pivot", gain=0), *model("sce")], uncertainty=UNCERTAINTY)
    show(table, tmp_path, next_command=["python", "-m", "ablations.report", "cells=a b"])
    out, err = capsys.readouterr()
    assert out.endswith(f"report: {tmp_path / 'leaderboard.html'}\n")
    assert "sce, the best merge, has 6.50 on MT-Bench, +1.50 to the pivot" in " ".join(out.split())
    assert err == "next: python -m ablations.report 'cells=a b'\n"
