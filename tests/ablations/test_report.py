"""The report of several cells: rows, contrasts, plots, a published table, and the page as a browser shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from ablations.cell import find_cells
from ablations.contrasts import BEST_TARGET, FUSION_OVER_SFT, contrast_table, contrasts
from ablations.pooled_report import write_pooled_report
from ablations.pooling import Row, pooled
from ablations.published import Published, comparison
from ablations.report import run
from ablations.report_plots import coefficient_map, heat_maps, layer_weights, seed_spread
from ablations.show import show
from ablations.studies import STUDIES
from bench.chromium import browser, find
from eval.benchmarks import LMEvalHarness
from eval.judge_report import cost_csv
from eval.judges.cost import JudgeCost
from eval.plots import svg
from eval.records import ItemScore
from eval.report import items_table
from eval.scored import ScoredModel
from eval.scores.intervals import Bootstrap, mean_interval
from eval.scores.metric_row import MetricRow
from eval.tables import leaderboard, scores_table
from fusion.command import compose, group_entry, group_names
from fusion.configure import Refusal, typed

BOOTSTRAP = Bootstrap(resamples=50, seed=0)
HOSTILE = '</svg></script><img src=x onerror="document.title=1">$\\frac$'
GROUPS = {"pivot": "Pivot", "sft": "Baselines", "multi": "Baselines", "target": "Targets"}
PIVOT = [5.0] * 6
SFT = [6.0] * 6
TARGETS = {"target-a": [6.0, 6, 6, 7, 7, 7], "target-b": [7.0] * 6}
MERGED = [8.0, 8, 8, 8, 7, 7]


def scored(model: str, ratings: Sequence[float]) -> ScoredModel:
    """One rating a question, of three categories."""
    items = tuple(
        ItemScore(
            benchmark="mt_bench", metric="rating", question_id=str(i), turn=1, category="xyz"[i % 3], value=float(value)
        )
        for i, value in enumerate(ratings)
    )
    rows = []
    for part in ("all", "x", "y", "z"):
        chosen = [item for item in items if part in ("all", item.category)]
        found = mean_interval([i.value or 0 for i in chosen], [i.question_id for i in chosen], BOOTSTRAP)
        rows.append(
            MetricRow(
                benchmark="mt_bench", metric="rating", slice=part, value=found.value, low=found.low, high=found.high,
                n=found.n, unscored=0,
            )
        )  # fmt: skip
    group = GROUPS.get(model.split("-")[0], "Merged")
    return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=tuple(rows), items=items)


def on_tasks(model: str, tasks: Mapping[str, Sequence[float]]) -> ScoredModel:
    """What lm-eval leaves: a score for each document of each task, and a row for each task."""
    items = [
        ItemScore(
            benchmark="lm_eval", metric="acc", question_id=f"{task}/{i}", turn=1, category=task, value=float(value)
        )
        for task, values in tasks.items()
        for i, value in enumerate(values)
    ]
    rows = LMEvalHarness(tasks=tuple(tasks)).metrics(items, BOOTSTRAP)
    group = GROUPS.get(model.split("-")[0], "Merged")
    return ScoredModel(model=model, group=group, benchmark="lm_eval", metrics=tuple(rows), items=tuple(items))


def cell(
    where: Path,
    models: Mapping[str, Sequence[float] | Mapping[str, Sequence[float]]],
    *,
    seed: int = 0,
    weights: Mapping[str, str] | None = None,
    study: str | None = None,
    **axes: str,
) -> Path:
    """A finished cell as a run leaves it; weights differ where scores do unless they are given.

    A model has ratings, or scores by lm-eval task.
    """
    name = ",".join([*(f"{axis}={value}" for axis, value in axes.items()), f"seed={seed}"])
    out = where / name
    out.mkdir(parents=True)
    entries = [
        on_tasks(model, scores) if isinstance(scores, Mapping) else scored(model, scores)
        for model, scores in models.items()
    ]
    scores_table(entries, bootstrap=BOOTSTRAP).to_csv(out / "scores.csv", index=False)
    items_table(entries).to_csv(out / "items.csv", index=False)
    (out / "leaderboard.html").write_text("<!doctype html><title>cell</title>")
    keys = {model: f"{model}-{scores}" for model, scores in models.items()}
    content = {
        "name": name, "experiment": "trial", "study": study, "seed": seed, "axes": axes,
        "weights": {**keys, **(weights or {})},
    }  # fmt: skip
    (out / "cell.json").write_text(json.dumps(content))
    return out


def shifted(ratings: Sequence[float], by: float) -> list[float]:
    return [value + by for value in ratings]


def rows_of(where: Path) -> list[Row]:
    return pooled(find_cells(where), BOOTSTRAP)


def test_the_contrasts_are_paired_by_question_and_corrected_over_their_rows(tmp_path):
    for seed in (0, 1):
        cell(tmp_path, {"pivot": PIVOT, "sft": SFT, **TARGETS, "sce": MERGED}, seed=seed)
    table = contrast_table(contrasts(rows_of(tmp_path), BOOTSTRAP)).set_index(["table", "model"])
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


def test_a_model_is_named_by_the_axes_that_change_it_and_compared_within_its_setting(tmp_path):
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
    table = contrast_table(contrasts(rows, BOOTSTRAP)).set_index("model")
    assert table.loc["sce (align=ms)", "minus"] == "target-b (align=ms)"
    assert table.loc["sce (align=ms)", "difference"] == pytest.approx(10 / 6)


def test_where_an_axis_changes_the_pivot_too_differences_are_to_its_own(tmp_path):
    same = {"pivot": "p", "sce": "s"}
    cell(tmp_path, {"pivot": PIVOT, "sce": MERGED}, judge="kind", weights=same)
    cell(tmp_path, {"pivot": shifted(PIVOT, -2), "sce": shifted(MERGED, -2)}, judge="strict", weights=same)
    table = write_pooled_report(find_cells(tmp_path), tmp_path, tmp_path / "out", bootstrap=BOOTSTRAP)
    whole = table[table["slice"] == "all"].set_index("model")
    assert set(whole.index) == {f"{model} (judge={judge})" for model in same for judge in ("kind", "strict")}
    assert whole.loc["sce (judge=strict)", "difference_to_pivot"] == pytest.approx(46 / 6 - 5)
    assert whole.loc["sce (judge=strict)", "percent_to_pivot"] == pytest.approx(100 * ((46 / 6 - 2) / 3 - 1))


def test_a_model_that_only_some_settings_have_is_compared_within_them(tmp_path):
    """As with another pivot: what it learns from is another set of sources."""
    low = shifted(PIVOT, -2)
    for rule, gain in (("linear", 0.0), ("sce", 0.5)):
        merged = shifted(MERGED, gain)
        cell(tmp_path, {"pivot": PIVOT, "target-a": TARGETS["target-a"], rule: merged}, pivot="0", merge=rule)
        cell(tmp_path, {"pivot": low, "target-b": shifted(low, 1), rule: shifted(merged, -2)}, pivot="1", merge=rule)
    rows = rows_of(tmp_path)
    best = contrast_table(contrasts(rows, BOOTSTRAP)).set_index("model")
    assert dict(best["minus"]) == {
        "linear (pivot=0)": "target-a",
        "sce (pivot=0)": "target-a",
        "linear (pivot=1)": "target-b",
        "sce (pivot=1)": "target-b",
    }
    table = write_pooled_report(find_cells(tmp_path), tmp_path, tmp_path / "out", bootstrap=BOOTSTRAP)
    difference = table[table["slice"] == "all"].set_index("model")["difference_to_pivot"]
    assert difference["target-a"] == pytest.approx(39 / 6 - 5)
    assert difference["target-b"] == pytest.approx(1)


def test_a_setting_with_fewer_seeds_is_still_paired_with_the_pivot(tmp_path):
    for align, seeds in (("em", (0, 1)), ("ms", (0,))):
        for seed in seeds:
            cell(tmp_path, {"pivot": PIVOT, "sce": shifted(MERGED, seed + (align == "ms"))}, seed=seed, align=align)
    rows = rows_of(tmp_path)
    table = scores_table([row.scored for row in rows], bootstrap=BOOTSTRAP)
    whole = table[table["slice"] == "all"].set_index("model")["difference_to_pivot"]
    assert whole["sce (align=ms)"] == pytest.approx(46 / 6 + 1 - 5)
    assert whole["sce (align=em)"] == pytest.approx(46 / 6 + 0.5 - 5)


def crossed(where: Path) -> None:
    """Two axes that act together: ms gains 1, avg gains 1, both gain nothing more; a second seed adds 0.5."""
    for align, fuse, gain in (("em", "min", 0), ("em", "avg", 1), ("ms", "min", 1), ("ms", "avg", 1)):
        for seed in (0, 1):
            gained = shifted(MERGED, gain + seed / 2)
            cell(where, {"pivot": PIVOT, "sce": gained}, seed=seed, align=align, fuse=fuse)


def test_a_heat_map_has_the_mean_over_seeds_of_every_pair_of_settings(tmp_path):
    crossed(tmp_path)
    (figure,) = heat_maps(rows_of(tmp_path), (), BOOTSTRAP).values()
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
    assert heat_maps(rows_of(tmp_path), ("pivot",), BOOTSTRAP) == {}  # no axis changes it


def test_seeds_are_drawn_beside_their_pool_and_not_where_there_is_one(tmp_path):
    crossed(tmp_path)
    (figure,) = seed_spread(rows_of(tmp_path)).values()
    (axes,) = figure.axes
    assert next(label.get_text() for label in axes.get_yticklabels()) == "sce (align=em, fuse=avg)"
    seeds = next(line for line in axes.lines if line.get_marker() == "o")
    assert list(seeds.get_xdata()) == pytest.approx([46 / 6 + 1, 46 / 6 + 1.5])
    cell(tmp_path / "one", {"pivot": PIVOT, "sce": MERGED})
    assert seed_spread(rows_of(tmp_path / "one")) == {}


def test_every_task_of_lm_eval_is_compared_and_drawn_by_itself(tmp_path, capsys):
    before, after = [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]
    settings = {("em", "min"): before, ("em", "avg"): before, ("ms", "min"): before, ("ms", "avg"): after}
    for (align, fuse), sums in settings.items():
        tasks = {name: {"sums": before, "letters": [1, 1]} for name in ("pivot", "sft", "target-a")}
        models = {**tasks, "sce": {"sums": sums, "letters": [1, 1]}}
        cell(tmp_path / "cells", models, study="alignment_scheme", align=align, fuse=fuse)
    rows = rows_of(tmp_path / "cells")

    best = contrast_table(contrasts(rows, BOOTSTRAP)).set_index(["table", "slice", "model"]).loc[BEST_TARGET]
    found = best.loc[("sums", "sce (align=ms, fuse=avg)")]
    assert found["difference"] == pytest.approx(4 / 6)
    # Up on four documents and equal on two: 2 of 2**4 ways to swap; the sce of each of four settings is one row.
    assert found["p"] == pytest.approx(2 / 16)
    assert found["p_holm"] == pytest.approx(4 * 2 / 16)
    assert set(best.loc["letters", "difference"]) == {0.0}

    (name,) = heat_maps(rows, (), BOOTSTRAP)  # nothing changes the letters
    assert name == "lm_eval_sums_acc_merged_align_by_fuse"

    report_of(tmp_path / "cells", tmp_path / "out")
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


def test_the_published_tables_are_typed_and_give_the_paper_s_own_percentages():
    for name in group_names("compare"):
        typed(group_entry("compare", name), Published, at="compare")
    v2 = typed(compose("report", ["cells=x", "out=y", "compare=fusechat_v2"])["compare"], Published, at="compare")
    empty = pd.DataFrame(columns=["model", "group", "benchmark", "metric", "slice", "value", "percent_to_pivot"])
    long = comparison(v2, empty).set_index(["model", "column"])["percent"].round(2)
    assert long["FuseChat-7B (SCE)", "MT-Bench"] == 7.89
    assert long["FuseChat-7B (SCE)", "AlpacaEval win rate %"] == 12.94
    wrong = {"title": "", "source": "", "columns": [], "rows": [{"role": "Winner", "model": "x", "values": []}]}
    with pytest.raises(Refusal, match="the role of x is Winner"):
        typed(wrong, Published, at="compare")


def report_of(where: Path, out: Path, **more: object) -> None:
    run({"cells": str(where), "out": str(out), "report": {"resamples": 50}, "paths": {"artifacts": "none"}, **more})


def test_a_published_table_stands_beside_ours_and_never_in_it(tmp_path, capsys):
    cell(tmp_path / "cells", {"pivot": PIVOT, "sft": SFT, **TARGETS, "sce": MERGED})
    report_of(tmp_path / "cells", tmp_path / "out", compare=group_entry("compare", "fusechat_v2"))
    long = pd.read_csv(tmp_path / "out/compare.csv")
    ours = long[long["origin"] == "here"].set_index("model")
    assert dict(ours["role"]) == {
        "pivot": "Pivot", "sft": "SFT", "target-a": "Targets", "target-b": "Targets", "sce": "Merged",
    }  # fmt: skip
    assert ours.loc["sft", "percent"] == pytest.approx(20)
    assert "OpenChat" in (tmp_path / "out/compare.md").read_text()
    for name in ("scores.csv", "leaderboard.md", "leaderboard.csv", "leaderboard.tex"):
        assert "OpenChat" not in (tmp_path / "out" / name).read_text()
    assert r"\toprule" in (tmp_path / "out/leaderboard.tex").read_text()
    assert r"\textbf{7.67} ($+53.33$\%)" in (tmp_path / "out/leaderboard.tex").read_text()  # 46 / 6 to 5


def test_a_study_s_findings_are_a_part_of_the_page_and_files_beside_it(tmp_path, capsys):
    for align, gain in (("em", 0.0), ("ms", 1.0)):
        models = {"pivot": PIVOT, **TARGETS, "sce": shifted(MERGED, gain)}
        cell(tmp_path / "cells", models, study="alignment_scheme", align=align)
    report_of(tmp_path / "cells", tmp_path / "out")
    text = (tmp_path / "out/leaderboard.html").read_text()
    assert f"<h2>{STUDIES['alignment_scheme'].question}</h2>" in text
    assert "sce, align=ms" in text
    assert 'href="findings-alignment_scheme.md"' in text
    assert (tmp_path / "out/findings-alignment_scheme.md").exists()


def test_what_judging_took_is_summed_over_seeds_and_counted_once_for_shared_weights(tmp_path):
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
    table = scores_table([row.scored for row in rows], bootstrap=BOOTSTRAP)
    costs = [cost for row in rows if row.scored.judged for cost in row.scored.judged.costs]
    taken = {row.model: (row.judge_tokens, row.judge_money) for row in leaderboard(table, costs)}
    assert taken == {"pivot": (100, 0.5), "sce": (200, 1.0)}


def test_the_terminal_marks_what_differs_after_correction(tmp_path, capsys):
    entries = [scored("pivot", PIVOT), scored("sce", [8.0] * 6), scored("linear", [5.0] * 5 + [6.0])]
    show(scores_table(entries, bootstrap=BOOTSTRAP), tmp_path / "[a]")
    said = capsys.readouterr().out
    assert "+3.00" in said and "†" not in said.split("linear")[0]  # 2 / 64 each, twice 1 / 32 after Holm
    entries = [scored("pivot", PIVOT), scored("sce", [8.0] * 6)]
    show(scores_table(entries, bootstrap=BOOTSTRAP), tmp_path / "[a]")
    said = capsys.readouterr().out
    assert "+3.00†" in said
    assert "differs from the pivot after Holm" in said
    assert "[a]/leaderboard.html" in said.replace("\n", "")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of four cells and a failed one, with a hostile name among the models."""
    where = tmp_path_factory.mktemp("sweep")
    for align, gain in (("em", 0.0), ("ms#1", 1.0)):
        for seed in (0, 1):
            merges = {"linear": shifted(MERGED, gain + seed / 2), HOSTILE: shifted(MERGED, -gain - seed / 4)}
            out = cell(where / "cells", {"pivot": PIVOT, "sft": SFT, **TARGETS, **merges}, seed=seed, align=align)
            artifact = where / "artifacts/merge" / f"{align}{seed}"
            artifact.mkdir(parents=True)
            (artifact / "manifest.json").write_text("{}")
            table = coefficients({"up": (0, 4, 0.1, 0.9), "down": (1, 4, 0.6, 0.4)})
            table.to_parquet(artifact / "coefficients.parquet")
            path = f"artifacts/merge/{align}{seed}"
            content = json.loads((out / "cell.json").read_text())
            content["checkpoints"] = {HOSTILE: path}
            content["stages"] = [{"stage": "merge", "what": HOSTILE, "key": f"{align}{seed}", "path": path}]
            (out / "cell.json").write_text(json.dumps(content))
    (where / "cells/bad").mkdir()
    failed = {"name": "bad", "overrides": [], "reason": HOSTILE, "traceback": ""}
    (where / "cells/bad/failed.json").write_text(json.dumps(failed))
    report_of(where / "cells", where / "out", compare=group_entry("compare", "fusechat_v2"))
    return where / "out/leaderboard.html"


def test_the_page_has_every_part_and_fetches_nothing(page):
    text = page.read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Merge minus best target", "Fusion minus SFT", "Axes together", "Seeds", "Merge coefficients",
        "Beside FuseChat-7B v2.0, Table 1", "Cells", "Artifacts",
    ]  # fmt: skip
    assert not re.search(r'src="(?!data:)|url\((?!#)|@import|href="[^"#]*//', text)
    assert text.count("<script") == 1
    assert "<img" not in text
    assert "optimistic" in text or "flatters" in text
    assert len([*page.parent.glob("plots/*.svg")]) == text.count("<svg")


@pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_sorts_the_tables_follows_the_links_and_draws_the_plots(page):
    with browser() as tab:
        tab.open(page.as_uri(), "document.readyState == 'complete'")
        names = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[1].innerText)"
        press = "document.querySelectorAll('{} thead button')[{}].click()"
        tab.evaluate(press.format("body > .table", 2))  # best first
        ordered = tab.evaluate(names)
        assert ordered[0] == "linear (align=ms#1)"
        assert ordered[-1] == "pivot"
        assert f"{HOSTILE} (align=em)" in ordered
        tab.evaluate(press.format("#fusion-minus-sft", 0))
        first = "document.querySelector('#fusion-minus-sft tbody').rows[0].cells[0].innerText"
        assert tab.evaluate(first) == f"{HOSTILE} (align=em)"
        addresses = tab.evaluate("[...document.links].map(link => link.getAttribute('href'))")
        assert any("manifest.json" in address for address in addresses)
        for address in addresses:
            target, _, anchor = address.partition("#")
            assert (page.parent / unquote(target)).exists(), address
            assert not anchor or tab.evaluate(f"Boolean(document.getElementById({json.dumps(anchor)}))"), address
        sizes = tab.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width)")
        assert len(sizes) >= 6
        assert min(sizes) > 100
        assert tab.evaluate("document.images.length") == 0
        assert tab.evaluate("document.title") == "trial"
        assert HOSTILE in tab.evaluate("document.querySelector('figure:nth-of-type(2)').textContent")
        assert "failed: " + HOSTILE in tab.evaluate("document.getElementById('cells').textContent")
        assert tab.complaints == []
