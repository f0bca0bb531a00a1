from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from eval.records import ItemScore
from eval.report.comparisons import mean_model
from eval.report.tables import leaderboard, rounded, scores_table
from eval.report.write import write_report
from eval.scored import ScoredModel, pooled_question
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow

UNCERTAINTY = Uncertainty(seed=3)
RATINGS: dict[str, dict[str, tuple[int | None, ...]]] = {  # model -> question -> (turn 1, turn 2)
    "pivot": {"1": (4, 6), "2": (5, 7), "3": (9, 3)},
    "sft": {"1": (4, 5), "2": (5, None), "3": (8, 3)},
    "sce": {"1": (6, 7), "2": (6, 8), "3": (9, 6)},
}
GROUP = {"pivot": "Pivot", "sft": "Baselines", "sce": "Merged"}


def scored(model: str) -> ScoredModel:
    items = []
    for question, turns in RATINGS[model].items():
        for turn, value in enumerate(turns, start=1):
            items.append(
                ItemScore(
                    benchmark="mt_bench",
                    metric="rating",
                    question_id=question,
                    turn=turn,
                    category=f"category-{question}",
                    value=None if value is None else float(value),
                    reason="unreadable" if value is None else None,
                )
            )
    kept = [item for item in items if item.value is not None]
    interval = mean_interval([i.value for i in kept], [i.question_id for i in kept], UNCERTAINTY)
    metrics = [
        MetricRow(
            benchmark="mt_bench",
            metric="rating",
            slice="all",
            value=interval.value,
            low=interval.low,
            high=interval.high,
            n=len(kept),
            unscored=len(items) - len(kept),
        ),
        MetricRow(benchmark="mt_bench", metric="rating", slice="turn2", value=None, n=0, unscored=0, reason="none"),
    ]
    return ScoredModel(
        model=model, group=GROUP[model], benchmark="mt_bench", metrics=tuple(metrics), items=tuple(items)
    )


@pytest.fixture
def everyone() -> list[ScoredModel]:
    return [scored(model) for model in RATINGS]


def row_of(table: pd.DataFrame, model: str) -> pd.Series:
    return table[(table["model"] == model) & (table["slice"] == "all")].iloc[0]


def test_scores_come_in_long_form_with_the_contract_columns_first(everyone):
    table = scores_table(everyone, uncertainty=UNCERTAINTY)
    assert list(table.columns[:10]) == "model group benchmark metric slice value low high n unscored".split()
    assert row_of(table, "sft")["value"] == pytest.approx((4 + 5 + 5 + 8 + 3) / 5)
    assert row_of(table, "sft")["unscored"] == 1
    missing = table[table["slice"] == "turn2"].iloc[0]
    assert pd.isna(missing["value"])
    assert missing["reason"] == "none"


def test_differences_are_paired_over_the_turns_both_models_were_scored_on(everyone):
    table = scores_table(everyone, uncertainty=UNCERTAINTY)
    sce, sft = row_of(table, "sce"), row_of(table, "sft")
    assert sce["difference_to_pivot"] == pytest.approx((2 + 1 + 1 + 1 + 0 + 3) / 6)
    assert sce["difference_to_sft"] == pytest.approx((2 + 2 + 1 + 1 + 3) / 5)  # the unscored turn is left out
    assert sft["difference_to_pivot"] == pytest.approx((0 - 1 + 0 - 1 + 0) / 5)
    assert sce["difference_to_pivot_low"] <= sce["difference_to_pivot"] <= sce["difference_to_pivot_high"]
    assert pd.isna(row_of(table, "pivot")["difference_to_pivot"])


def test_pooled_runs_of_one_question_are_resampled_together(everyone):
    def pooled(entry: ScoredModel) -> ScoredModel:
        items = [
            ItemScore(**{**item.__dict__, "question_id": pooled_question(item.question_id, run)})
            for run in ("0", "1")
            for item in entry.items
        ]
        return replace(entry, items=tuple(items))

    once = row_of(scores_table(everyone, uncertainty=UNCERTAINTY), "sce")
    twice = row_of(scores_table([pooled(entry) for entry in everyone], uncertainty=UNCERTAINTY), "sce")
    for name in ("difference_to_pivot", "difference_to_pivot_low", "difference_to_pivot_high"):
        assert twice[name] == pytest.approx(once[name])  # the same answers twice are no new evidence


def test_the_mean_of_a_group_is_the_mean_on_every_item_all_were_scored_on(everyone):
    targets = [replace(entry, group="Targets") for entry in everyone if entry.model != "pivot"]
    mean = mean_model(targets, "Targets", "mt_bench")
    assert mean is not None
    values = {(item.question_id, item.turn): item.value for item in mean.items}
    assert values[("1", 1)] == (4 + 6) / 2
    assert ("2", 2) not in values  # SFT was not scored there
    assert mean_model(targets, "Merged", "mt_bench") is None


def test_the_leaderboard_orders_groups_and_marks_best_and_second(everyone):
    rows = leaderboard(scores_table(list(reversed(everyone)), uncertainty=UNCERTAINTY))
    assert [row.model for row in rows] == ["pivot", "sft", "sce"]
    assert [row.cells[0].rank for row in rows] == [2, 0, 1]
    assert [row.unscored for row in rows] == [0, 1, 0]


def test_models_that_print_alike_share_a_rank():
    def rated(model: str, value: float) -> ScoredModel:
        row = MetricRow(benchmark="mt_bench", metric="rating", slice="all", value=value, n=8, unscored=0)
        return ScoredModel(model=model, group="Merged", benchmark="mt_bench", metrics=(row,), items=())

    # Two decimals are printed: 7.12 twice, then 7.11, and 7.10 is third.
    values = {"a": 7.1249, "b": 7.1151, "c": 7.1149, "d": 7.1}
    rows = leaderboard(scores_table([rated(*each) for each in values.items()], uncertainty=UNCERTAINTY))
    cells = {row.model: row.cells[0] for row in rows}
    printed = {model: rounded(cell.value, cell.heading.decimals) for model, cell in cells.items()}
    assert printed == {"a": "7.12", "b": "7.12", "c": "7.11", "d": "7.10"}
    assert {model: cell.rank for model, cell in cells.items()} == {"a": 1, "b": 1, "c": 2, "d": 0}


def test_a_report_has_every_form_and_the_same_bytes_each_time(everyone, tmp_path):
    for name in ("a", "b"):
        write_report(everyone, tmp_path / name, title="Trial", uncertainty=UNCERTAINTY)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    names = {str(name) for name in files}
    assert {"scores.csv", "items.csv"} | {f"leaderboard.{end}" for end in ("md", "csv", "tex", "html")} <= names
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    markdown = (tmp_path / "a" / "leaderboard.md").read_text()
    assert "**7.00**" in markdown  # (6 + 7 + 6 + 8 + 9 + 6) / 6
    assert "<u>5.67</u>" in markdown  # (4 + 6 + 5 + 7 + 9 + 3) / 6
    assert r"\textbf{7.00}" in (tmp_path / "a" / "leaderboard.tex").read_text()
    page = (tmp_path / "a" / "leaderboard.html").read_text()
    assert page.count("<svg") >= 2
    assert not re.search(r'src="(?!data:)|href="[^"]*//', page)  # nothing is fetched


def test_a_hostile_model_name_is_text_in_the_page(tmp_path):
    entry = scored("sce")
    hostile = ScoredModel(**{**entry.__dict__, "model": "<script>alert(1)</script>"})
    write_report([hostile], tmp_path, title="<b>title</b>", uncertainty=UNCERTAINTY)
    page = (tmp_path / "leaderboard.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>title" not in page


def test_rounding_prints_a_minus_sign_and_a_dash_for_none():
    assert rounded(-0.125, 2, sign=True) == "−0.12"
    assert rounded(0.5, 1, sign=True) == "+0.5"
    assert rounded(None, 1) == "—"


def test_a_comparison_s_columns_are_a_win_rate_that_ranks_and_a_consistency_that_does_not():
    def compared(model: str, rate: float) -> ScoredModel:
        row = MetricRow(
            benchmark="mt_bench_pairwise", metric="pairwise_win_rate", slice="all", value=rate, n=8, unscored=2
        )
        steady = replace(row, metric="position_consistency", value=90.0)
        return ScoredModel(model=model, group="Merged", benchmark="mt_bench_pairwise", metrics=(row, steady), items=())

    rows = leaderboard(scores_table([compared("a", 61.25), compared("b", 40.0)], uncertainty=UNCERTAINTY))
    assert [cell.heading.ranked for cell in rows[0].cells] == [True, False]
    assert [[cell.rank for cell in row.cells] for row in rows] == [[1, 0], [2, 0]]
    assert rounded(rows[0].cells[0].value, rows[0].cells[0].heading.decimals) == "61.2"
    assert rows[0].unscored == 2
