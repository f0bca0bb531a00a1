"""The report of several cells: a published table, findings, costs, and the page as a browser shows it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from ablations.report.__main__ import run
from ablations.report.published import Published, comparison
from ablations.studies import STUDIES
from bench.chromium import browser, find
from eval.report.tables import scores_table
from eval.report.terminal import show
from eval.scores.intervals import Uncertainty
from fusion.runtime.command import compose, group_entry, group_names
from fusion.runtime.configure import Refusal, typed

UNCERTAINTY = Uncertainty(seed=0)
HOSTILE = '</svg></script><img src=x onerror="document.title=1">$\\frac$'
PIVOT = [5.0] * 6
SFT = [6.0] * 6
TARGETS = {"target-a": [6.0, 6, 6, 7, 7, 7], "target-b": [7.0] * 6}
MERGED = [8.0, 8, 8, 8, 7, 7]


def shifted(ratings: Sequence[float], by: float) -> list[float]:
    return [value + by for value in ratings]


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
    run({"cells": str(where), "out": str(out), "report": {}, "paths": {"artifacts": "none"}, **more})


def test_a_published_table_stands_beside_ours_and_never_in_it(tmp_path, capsys, cell):
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


def test_what_the_cells_stages_left_out_is_said_once_below_the_table(tmp_path, capsys, cell):
    facts = {
        "conversations": 8, "labels": 90, "labels_without_target": 30, "conversations_cut": 5,
        "conversations_without_target": 2,
    }  # fmt: skip
    whole = facts | {"labels_without_target": 0}
    stages = []
    for what, noted in (("target-a", facts), ("target-b", whole)):
        path = tmp_path / "train" / what
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(json.dumps({"facts": noted, "files": {}}))
        stages.append({"stage": "train", "what": what, "key": what, "path": str(path)})
    stages.append({"stage": "train", "what": "target-gone", "key": "gone", "path": str(tmp_path / "gone")})
    for align in ("em", "ms"):
        out = cell(tmp_path / "cells", {"pivot": PIVOT, **TARGETS}, align=align)
        content = json.loads((out / "cell.json").read_text()) | {"stages": stages}
        (out / "cell.json").write_text(json.dumps(content))
    report_of(tmp_path / "cells", tmp_path / "out")
    said = "target-a: 30 of 90 labelled tokens (33.3%) have no fused target"
    for name in ("leaderboard.html", "leaderboard.md"):
        text = (tmp_path / "out" / name).read_text()
        assert text.count(said) == text.count(" labelled tokens ") == 1


def test_a_study_s_findings_are_a_part_of_the_page_and_files_beside_it(tmp_path, capsys, cell):
    for align, gain in (("em", 0.0), ("ms", 1.0)):
        models = {"pivot": PIVOT, **TARGETS, "sce": shifted(MERGED, gain)}
        cell(tmp_path / "cells", models, study="alignment_scheme", align=align)
    report_of(tmp_path / "cells", tmp_path / "out")
    text = (tmp_path / "out/leaderboard.html").read_text()
    assert f"<h2>{STUDIES['alignment_scheme'].question}</h2>" in text
    assert "sce, align=ms" in text
    study = STUDIES["alignment_scheme"]
    headlines = re.findall(r'<p class="headline">(.*?)</p>', text)
    assert headlines[0].startswith(html.escape(study.claim.text)) and " on mt_bench: " in headlines[0]
    assert headlines[-1].startswith("sce (align=ms), the best merge, has 8.67 on MT-Bench")  # 46 / 6, and 1 more
    assert 'href="findings-alignment_scheme.md"' in text
    assert (tmp_path / "out/findings-alignment_scheme.md").exists()


def test_a_study_s_page_says_on_which_processors_it_was_computed(tmp_path, capsys, cell):
    on_gpu = {"made_with": {"device": "cuda"}, "versions": {"processor": "Host", "gpu": "NVIDIA H200"}}
    on_cpu = {"made_with": {"device": "cpu"}, "versions": {"processor": "One avx2", "gpu": "NVIDIA H200"}}
    for align, made_by in (("em", on_cpu), ("ms", {"versions": {"processor": "Other"}}), ("byte_span", on_gpu)):
        out = cell(
            tmp_path / "cells", {"pivot": PIVOT, **TARGETS, "sce": MERGED}, study="alignment_scheme", align=align
        )
        made = tmp_path / "train" / align
        made.mkdir(parents=True)
        (made / "manifest.json").write_text(json.dumps(made_by | {"files": {}}))
        stages = [
            {"stage": "train", "what": "target-a", "key": align, "path": str(made)},
            {"stage": "train", "what": "target-b", "key": "gone", "path": str(tmp_path / "gone")},
            {"stage": "train", "what": "target-c", "key": "torn", "path": str(tmp_path / "torn")},
        ]
        (tmp_path / "torn").mkdir(exist_ok=True)
        (tmp_path / "torn" / "manifest.json").write_text("{")
        (out / "cell.json").write_text(json.dumps(json.loads((out / "cell.json").read_text()) | {"stages": stages}))
    report_of(tmp_path / "cells", tmp_path / "out")
    page = (tmp_path / "out/findings-alignment_scheme.md").read_text().splitlines()
    assert (
        page.count(
            "Computed on NVIDIA H200 and One avx2 and Other: on another processor the same seeds give other models."
        )
        == 1
    )


def test_the_terminal_marks_what_differs_after_correction(tmp_path, capsys, scored):
    entries = [scored("pivot", PIVOT), scored("sce", [8.0] * 6), scored("linear", [5.0] * 5 + [6.0])]
    show(scores_table(entries, uncertainty=UNCERTAINTY), tmp_path / "[a]")
    said = capsys.readouterr().out
    assert "+3.00" in said and "†" not in said.split("linear")[0]  # 2 / 64 each, twice 1 / 32 after Holm
    entries = [scored("pivot", PIVOT), scored("sce", [8.0] * 6)]
    show(scores_table(entries, uncertainty=UNCERTAINTY), tmp_path / "[a]")
    said = capsys.readouterr().out
    assert "+3.00†" in said
    assert "differs from the pivot after Holm" in said
    assert "[a]/leaderboard.html" in said.replace("\n", "")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, cell: Callable[..., Path]) -> Path:
    """The report of four cells and a failed one, with a hostile name among the models."""
    where = tmp_path_factory.mktemp("sweep")
    for align, gain in (("em", 0.0), ("ms#1", 1.0)):
        for seed in (0, 1):
            merges = {"linear": shifted(MERGED, gain + seed / 2), HOSTILE: shifted(MERGED, -gain - seed / 4)}
            out = cell(where / "cells", {"pivot": PIVOT, "sft": SFT, **TARGETS, **merges}, seed=seed, align=align)
            artifact = where / "artifacts/merge" / f"{align}{seed}"
            artifact.mkdir(parents=True)
            (artifact / "manifest.json").write_text("{}")
            table = pd.DataFrame(
                {"parameter": parameter, "layer": layer, "elements": 4, "target": target, "weight": weight}
                for parameter, layer, weights in (("up", 0, (0.1, 0.9)), ("down", 1, (0.6, 0.4)))
                for target, weight in zip("ab", weights, strict=True)
            )
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
        names = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].firstChild.textContent)"
        press = "document.querySelectorAll('{} thead button')[{}].click()"
        written = tab.evaluate(names)
        tab.evaluate(press.format("body > .table", 1))  # best first
        ordered = tab.evaluate(names)
        assert ordered[0] == "linear (align=ms#1)"
        assert ordered[-1] == "pivot"
        assert f"{HOSTILE} (align=em)" in ordered
        tab.evaluate(press.format("body > .table", 1))
        assert tab.evaluate(names)[0] == "pivot"
        tab.evaluate(press.format("body > .table", 1))
        assert tab.evaluate(names) == written
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
