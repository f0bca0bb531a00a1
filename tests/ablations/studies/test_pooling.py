"""Cells put together: rows with seeds pooled, contrasts within one setting, plots over the axes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from ablations.cell import find_cells
from ablations.report.contrasts import BEST_TARGET, FUSION_OVER_SFT, contrast_table, contrasts
from ablations.report.plots import coefficient_map, heat_maps, layer_weights, seed_spread
from ablations.report.pooled import write_pooled_report
from ablations.report.published import Published, PublishedColumn, PublishedRow, comparison
from ablations.studies.pooling import PooledRow, pooled
from eval.benchmarks.mt_bench import RATING
from eval.report.judging import cost_csv
from eval.report.plots import best_rows, distinguishable, svg
from eval.report.tables import leaderboard, scores_table
from eval.scored import JudgeCost
from eval.scores.intervals import Uncertainty

UNCERTAINTY = Uncertainty(seed=0)
PIVOT = [5.0] * 6
SFT = [6.0] * 6
TARGETS = {"target-a": [6.0, 6, 6, 7, 7, 7], "target-b": [7.0] * 6}
MERGED = [8.0, 8, 8, 8, 7, 7]


def shifted(ratings: Sequence[float], by: float) -> list[float]:
    return [value + by for value in ratings]


def rows_of(where: Path) -> list[PooledRow]:
    return pooled(find_cells(where), UNCERTAINTY)


def test_the_contrasts_are_paired_by_question_and_corrected_over_their_rows(tmp_path, cell):
    for seed in (0, 1):
        cell(tmp_path, {"pivot": PIVOT, "sft": SFT, **TARGETS, "sce": MERGED}, seed=seed)
    table = contrast_table(contrasts(rows_of(tmp_path), UNCERTAINTY)).set_index(["table", "model"])
    best = table.loc[(BEST_TARGET, "sce")]
    assert best["minus"] == "target-b"  # 7.0 to 6.5
    assert best["difference"] == pytest.approx((42 + 4 - 42) / 6)
    # One up on four questions, equal on two: of 2**4 ways to swap them 2 are as far out.
    assert best["p"] == best["p_holm"] == pytest.approx(2 / 16)
    over = table.loc[FUSION_OVER_SFT]
    assert dict(over["difference"]) == pytest.approx({"target-a": 0.5, "target-b": 1.0, "sce": 10 / 6})
    # Three questions differ for target-a, all six for the others.
    assert dict(over["p"]) == pytest.approx({"target-a": 2 / 8, "target-b": 2 / 64, "sce": 2 / 64})
    assert dict(over["p_holm"]) == pytest.approx({"target-a": 2 / 8, "target-b": 6 / 64, "sce": 6 / 64})
    assert over.loc["target-b", "n"] == 12


def test_a_model_is_named_by_the_axes_that_change_it_and_compared_within_its_setting(tmp_path, cell):
    for align, gain in (("em", 0.0), ("ms", 1.0)):
        for rule, ratings in (("linear", MERGED), ("sce", shifted(MERGED, 1))):
            targets = {name: shifted(values, gain) for name, values in TARGETS.items()}
            cell(tmp_path, {"pivot": PIVOT, **targets, rule: shifted(ratings, gain)}, align=align, merge=rule)
    rows = rows_of(tmp_path)
    assert [row.label for row in rows] == [
        "pivot",
        "target-a (align=em)",
        "target-b (align=em)",
        "linear (align=em)",
        "sce (align=em)",
        "target-a (align=ms)",
        "target-b (align=ms)",
        "linear (align=ms)",
        "sce (align=ms)",
    ]  # the rule is no setting of a model that is named by it
    table = contrast_table(contrasts(rows, UNCERTAINTY)).set_index("model")
    assert table.loc["sce (align=ms)", "minus"] == "target-b (align=ms)"
    assert table.loc["sce (align=ms)", "difference"] == pytest.approx(10 / 6)


def test_where_an_axis_changes_the_pivot_too_differences_are_to_its_own(tmp_path, cell):
    same = {"pivot": "p", "sce": "s"}
    cell(tmp_path, {"pivot": PIVOT, "sce": MERGED}, judge="kind", weights=same)
    cell(tmp_path, {"pivot": shifted(PIVOT, -2), "sce": shifted(MERGED, -2)}, judge="strict", weights=same)
    table = write_pooled_report(find_cells(tmp_path), tmp_path, tmp_path / "out", uncertainty=UNCERTAINTY)
    whole = table[table["slice"] == "all"].set_index("model")
    assert set(whole.index) == {f"{model} (judge={judge})" for model in same for judge in ("kind", "strict")}
    assert whole.loc["sce (judge=strict)", "difference_to_pivot"] == pytest.approx(46 / 6 - 5)
    assert whole.loc["sce (judge=strict)", "percent_to_pivot"] == pytest.approx(100 * ((46 / 6 - 2) / 3 - 1))


def test_an_oracle_that_a_setting_relabels_is_still_named_and_never_marked_best(tmp_path, cell):
    for judge, gain in (("kind", 1), ("strict", 0)):
        ratings = {"pivot": PIVOT, "ensemble-top1_judge": [9.0] * 6, "ensemble-random": SFT, "sce": MERGED}
        cell(tmp_path, {model: shifted(values, gain) for model, values in ratings.items()}, judge=judge)
    write_pooled_report(find_cells(tmp_path), tmp_path, tmp_path / "out", uncertainty=UNCERTAINTY)
    page = (tmp_path / "out/leaderboard.md").read_text()
    for judge in ("kind", "strict"):
        oracle = f"ensemble-top1_judge (judge={judge})"
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {oracle}")]
        assert "**" not in row and "<u>" not in row
        assert f"{oracle} is an ORACLE, not a system" in page
    (best,) = [line for line in page.splitlines() if "| **" in line and line.count("**") == 2 and "[" in line]
    assert best.startswith("| sce (judge=kind)")  # 46 / 6 + 1 to the oracle's 10


def test_roles_outlive_the_labels_that_settings_give(tmp_path, cell):
    for judge, gain in (("kind", 1), ("strict", 0)):
        ratings = {"pivot": PIVOT, "sft": SFT, "multi": SFT, "target-a": TARGETS["target-a"], "sce": MERGED}
        cell(tmp_path, {model: shifted(values, gain) for model, values in ratings.items()}, judge=judge)
    column = PublishedColumn(benchmark="mt_bench", metric="rating", slice="all")
    table = Published(
        title="t", source="s", columns=(column,), rows=(PublishedRow(role="Pivot", model="p", values=(5.0,)),)
    )
    found = write_pooled_report(
        find_cells(tmp_path), tmp_path, tmp_path / "out", uncertainty=UNCERTAINTY, published=table
    )
    assert set(found["model"]) == {
        f"{row} (judge={judge})" for row in set(found["row"]) for judge in ("kind", "strict")
    }
    assert dict(zip(found["row"], found["role"], strict=True)) == {row: row for row in set(found["row"])}
    ours = comparison(table, found).query("origin == 'here'")
    assert Counter(ours["role"]) == {"Pivot": 2, "SFT": 2, "Multi": 2, "Targets": 2, "Merged": 2}
    over = contrast_table(contrasts(rows_of(tmp_path), UNCERTAINTY)).query("table == @FUSION_OVER_SFT")
    assert set(over["model"]) == {
        f"{row} (judge={j})" for row in ("multi", "target-a", "sce") for j in ("kind", "strict")
    }
    items = pd.read_csv(tmp_path / "judge=kind,seed=0" / "items.csv")
    assert set(items["role"]) == set(found["role"])


def test_of_many_settings_a_radar_shows_one_of_each_row_and_the_plots_keep_what_others_are_compared_with():
    """Whatever a model is called: a bracket in a name is no setting."""
    rows = [("pivot", "Pivot", "pivot"), ("sft (ours)", "Baselines", "sft (ours)")]
    rows += [(f"{rule} (align={n})", "Merged", rule) for n in range(40) for rule in ("linear", "sce", "ties")]
    table = pd.DataFrame(
        [
            (model, group, row, "mt_bench", "rating", "all", 5 + place / 100)
            for place, (model, group, row) in enumerate(rows)
        ],
        columns=["model", "group", "row", "benchmark", "metric", "slice", "value"],
    )
    assert distinguishable(table, "mt_bench", RATING, [*table["model"]]) == [
        "pivot",
        "sft (ours)",
        "sce (align=39)",
        "ties (align=39)",
    ]
    _, kept = best_rows("t", table, "value")
    assert len(kept) == 60 and {"pivot", "sft (ours)"} <= set(kept["model"])


def test_a_model_that_only_some_settings_have_is_compared_within_them(tmp_path, cell):
    """As with another pivot: what it learns from is another set of sources."""
    low = shifted(PIVOT, -2)
    for rule, gain in (("linear", 0.0), ("sce", 0.5)):
        merged = shifted(MERGED, gain)
        cell(tmp_path, {"pivot": PIVOT, "target-a": TARGETS["target-a"], rule: merged}, pivot="0", merge=rule)
        cell(tmp_path, {"pivot": low, "target-b": shifted(low, 1), rule: shifted(merged, -2)}, pivot="1", merge=rule)
    rows = rows_of(tmp_path)
    best = contrast_table(contrasts(rows, UNCERTAINTY)).set_index("model")
    assert dict(best["minus"]) == {
        "linear (pivot=0)": "target-a",
        "sce (pivot=0)": "target-a",
        "linear (pivot=1)": "target-b",
        "sce (pivot=1)": "target-b",
    }
    table = write_pooled_report(find_cells(tmp_path), tmp_path, tmp_path / "out", uncertainty=UNCERTAINTY)
    difference = table[table["slice"] == "all"].set_index("model")["difference_to_pivot"]
    assert difference["target-a"] == pytest.approx(39 / 6 - 5)
    assert difference["target-b"] == pytest.approx(1)


def test_a_setting_with_fewer_seeds_is_still_paired_with_the_pivot(tmp_path, cell):
    for align, seeds in (("em", (0, 1)), ("ms", (0,))):
        for seed in seeds:
            cell(tmp_path, {"pivot": PIVOT, "sce": shifted(MERGED, seed + (align == "ms"))}, seed=seed, align=align)
    rows = rows_of(tmp_path)
    table = scores_table([row.scored for row in rows], uncertainty=UNCERTAINTY)
    whole = table[table["slice"] == "all"].set_index("model")["difference_to_pivot"]
    assert whole["sce (align=ms)"] == pytest.approx(46 / 6 + 1 - 5)
    assert whole["sce (align=em)"] == pytest.approx(46 / 6 + 0.5 - 5)


def crossed(cell: Callable[..., Path], where: Path) -> None:
    """Two axes that act together: ms gains 1, avg gains 1, both gain nothing more; a second seed adds 0.5."""
    for align, fuse, gain in (("em", "min", 0), ("em", "avg", 1), ("ms", "min", 1), ("ms", "avg", 1)):
        for seed in (0, 1):
            gained = shifted(MERGED, gain + seed / 2)
            cell(where, {"pivot": PIVOT, "sce": gained}, seed=seed, align=align, fuse=fuse)


def test_a_heat_map_has_the_mean_over_seeds_of_every_pair_of_settings(tmp_path, cell):
    crossed(cell, tmp_path)
    (figure,) = heat_maps(rows_of(tmp_path), (), UNCERTAINTY).values()
    (axes,) = figure.axes
    names = [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.yaxis, axes.xaxis)]
    shown = [text.get_text().splitlines()[0] for text in axes.texts]
    values = dict(zip([(left, top) for left in names[0] for top in names[1]], shown, strict=True))
    mean = 46 / 6 + 0.25
    assert values == {
        ("em", "min"): f"{mean:.2f}",
        ("em", "avg"): f"{mean + 1:.2f}",
        ("ms", "min"): f"{mean + 1:.2f}",
        ("ms", "avg"): f"{mean + 1:.2f}",
    }
    assert all(re.search(r"\d to \d", text.get_text()) for text in axes.texts)
    assert heat_maps(rows_of(tmp_path), ("pivot",), UNCERTAINTY) == {}  # no axis changes it


def test_seeds_are_drawn_beside_their_pool_and_not_where_there_is_one(tmp_path, cell):
    crossed(cell, tmp_path)
    (figure,) = seed_spread(rows_of(tmp_path)).values()
    (axes,) = figure.axes
    assert next(label.get_text() for label in axes.get_yticklabels()) == "sce (align=em, fuse=avg)"
    seeds = [line for line in axes.lines if line.get_marker() == "o" and list(line.get_ydata()) == [0]]
    assert [x for line in seeds for x in line.get_xdata()] == pytest.approx([46 / 6 + 1, 46 / 6 + 1.5])
    cell(tmp_path / "one", {"pivot": PIVOT, "sce": MERGED})
    assert seed_spread(rows_of(tmp_path / "one")) == {}


def test_every_task_of_lm_eval_is_compared_and_drawn_by_itself(tmp_path, capsys, cell):
    before, after = [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]
    settings = {("em", "min"): before, ("em", "avg"): before, ("ms", "min"): before, ("ms", "avg"): after}
    for (align, fuse), sums in settings.items():
        tasks = {name: {"sums": before, "letters": [1, 1]} for name in ("pivot", "sft", "target-a")}
        models = {**tasks, "sce": {"sums": sums, "letters": [1, 1]}}
        cell(tmp_path / "cells", models, study="alignment_scheme", align=align, fuse=fuse)
    rows = rows_of(tmp_path / "cells")

    best = contrast_table(contrasts(rows, UNCERTAINTY)).set_index(["table", "slice", "model"]).loc[BEST_TARGET]
    found = best.loc[("sums", "sce (align=ms, fuse=avg)")]
    assert found["difference"] == pytest.approx(4 / 6)
    # Up on four documents and equal on two: 2 of 2**4 ways to swap; the sce of each of four settings is one row.
    assert found["p"] == pytest.approx(2 / 16)
    assert found["p_holm"] == pytest.approx(4 * 2 / 16)
    assert set(best.loc["letters", "difference"]) == {0.0}

    (name,) = heat_maps(rows, (), UNCERTAINTY)  # nothing changes the letters
    assert name == "lm_eval_sums_acc_merged_align_by_fuse"

    cells = find_cells(tmp_path / "cells")
    write_pooled_report(cells, tmp_path / "cells", tmp_path / "out", uncertainty=UNCERTAINTY)
    page = (tmp_path / "out/findings-alignment_scheme.md").read_text()
    assert "- **not shown** on lm_eval sums: mean of targets, align=ms, fuse=avg less" in page
    line = "| sce, align=ms, fuse=avg | sce, align=em, fuse=avg | lm_eval sums acc | +0.667 ["
    assert sum(text.startswith(line) for text in page.splitlines()) == 1


def coefficients(weights: Mapping[str, tuple[int | None, int, float | None, float]]) -> pd.DataFrame:
    """parameter -> (layer, elements, weight of a, weight of b)"""
    rows = [
        {"parameter": name, "layer": layer, "elements": elements, "target": target, "weight": weight}
        for name, (layer, elements, *pair) in weights.items()
        for target, weight in (*zip("ab", pair, strict=True), ("(merged)", None))
    ]
    return pd.DataFrame(rows)


def test_coefficients_are_means_over_a_layer_s_elements_and_drawn_where_they_differ():
    table = coefficients(
        {
            "lm_head.weight": (None, 5, 0.7, 0.3),
            "layers.10.up": (10, 10, 0.2, 0.8),
            "layers.10.down": (10, 30, 0.6, 0.4),
            "layers.2.up": (2, 10, None, 0.5),
        }
    )
    found = layer_weights(table)
    assert list(found.index) == ["lm_head", "layer 2", "layer 10"]
    assert found.loc["layer 10", "a"] == pytest.approx((10 * 0.2 + 30 * 0.6) / 40)
    assert pd.isna(found.loc["layer 2", "a"])
    assert "0.50" in svg(coefficient_map("sce", table))  # type: ignore[arg-type]
    assert coefficient_map("linear", coefficients({"up": (0, 4, 0.5, 0.5)})) == "every coefficient is 0.5."
    assert coefficient_map("varm", coefficients({"up": (0, 4, None, None)})).startswith("no coefficient")  # type: ignore[union-attr]


def test_what_judging_took_is_summed_over_seeds_and_counted_once_for_shared_weights(tmp_path, cell):
    for seed in (0, 1):
        out = cell(tmp_path, {"pivot": PIVOT, "sce": shifted(MERGED, seed)}, seed=seed)
        costs = [
            JudgeCost(
                model=model, benchmark="mt_bench", judge="j", layer=1, replies=6, asked=6, prompt_tokens=90,
                completion_tokens=10, money=0.5,
            )
            for model in ("pivot", "sce")
        ]  # fmt: skip
        (out / "cost.csv").write_text(cost_csv(costs))
    rows = rows_of(tmp_path)
    table = scores_table([row.scored for row in rows], uncertainty=UNCERTAINTY)
    costs = [cost for row in rows if row.scored.judged for cost in row.scored.judged.costs]
    taken = {row.model: (row.judge_tokens, row.judge_money) for row in leaderboard(table, costs)}
    assert taken == {"pivot": (100, 0.5), "sce": (200, 1.0)}
