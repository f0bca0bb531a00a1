"""Cells that are laid beside each other, or resumed, say so when they were made by different code."""

from __future__ import annotations

import json

from ablations.made_by import code_of, disagreements, outdated, read_code
from eval.benchmarks import BENCHMARKS
from eval.ensembles import ENSEMBLES
from fusion.runtime.fingerprint import code_digest, module_digests
from fusion.runtime.progress import StageRecord


def record(stage: str, modules: tuple[str, ...], code: str) -> StageRecord:
    return StageRecord(stage=stage, what="w", key="k", path="p", modules=modules, code=code)


def test_the_stage_and_the_few_cells_that_differ_are_named():
    merge, fuse = ("fusion.merge.parameter", "fusion.merge.rules.sce"), ("fusion.fuse.fuse",)
    cells = {
        name: code_of([record("merge", merge, code), record("fuse", fuse, "same")], "t")
        for name, code in (("a", "1"), ("b", "1"), ("c", "2"))
    }
    assert disagreements(cells) == [
        "merge by fusion.merge.parameter, fusion.merge.rules.sce: 1 of 3 cells were made by other code"
        " than the rest (c)"
    ]
    assert disagreements({name: code for name, code in cells.items() if name != "c"}) == []


def test_stages_of_other_modules_are_not_compared():
    one = code_of([record("merge", ("fusion.merge.rules.sce",), "1")], "t")
    other = code_of([record("merge", ("fusion.merge.rules.ties",), "2")], "t")
    assert disagreements({"a": one, "b": other}) == []


def test_tables_made_by_other_arithmetic_are_distinguishable():
    assert disagreements({"a": code_of([], "1"), "b": code_of([], "2")}) == [
        "score by eval.judging.repeats, eval.judges.panel, eval.ensembles, eval.judging.scored_by, eval.report.tables:"
        " 1 of 2 cells were made by other code than the rest (a)"
    ]


def test_whatever_makes_a_table_of_verdicts_is_in_the_code_of_a_cell():
    (label,) = code_of([], "t")
    reached = module_digests(tuple(label.partition(" by ")[2].split(", ")))
    made_by = {rule.__module__ for rule in (*BENCHMARKS.values(), *ENSEMBLES.values())}
    assert made_by | {"eval.judging.repeats", "eval.judges.panel", "eval.scores.paired"} <= set(reached)


def test_finished_cells_are_compared_with_the_code_of_today(tmp_path):
    modules = ("fusion.distribution",)
    cell = {"name": "c", "experiment": "trial", "seed": 0, "axes": {}}
    for name, code in (("new", code_digest(modules)), ("old", "0" * 20)):
        (tmp_path / name).mkdir()
        stages = [{"stage": "fuse", "what": "w", "key": "k", "path": "p", "modules": list(modules), "code": code}]
        (tmp_path / name / "cell.json").write_text(json.dumps(cell | {"stages": stages}))
    found = read_code([tmp_path / "new", tmp_path / "old"])
    assert outdated(found) == [
        "fuse by fusion.distribution: its code has changed since 1 of the finished cells were made"
    ]
    assert outdated({"new": found["new"]}) == []


def test_a_cell_of_before_this_was_noted_or_of_modules_that_are_gone_says_nothing():
    old = StageRecord(stage="fuse", what="w", key="k", path="p")
    gone = record("fuse", ("fusion.not_there",), "1")
    assert outdated({"a": code_of([old], ""), "b": code_of([gone], "")}) == []
