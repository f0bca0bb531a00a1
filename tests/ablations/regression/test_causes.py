"""The first changed artifact and why: on chains written by hand, then on a store of two stages whose code is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ablations.regression.causes import Change, compare_chains
from ablations.regression.chain import Link, load_chain, write_chain
from ablations.regression.report import Check, chain_lines, junit, markdown, text
from ablations.regression.scores import Moved

ROOT = Path(__file__).parents[3]


def link(stage: str, what: str, *, made_of: dict[str, str] | None = None, **settings: object) -> Link:
    return Link(
        stage=stage,
        what=what,
        key=f"{stage}-{what}",
        config=settings,
        inputs=made_of or {},
        code={f"fusion.{stage}": "1", "fusion.shared": "1"},
        versions={"torch": "2.0", "processor": "A"},
        output={"model.safetensors": "1"},
        content=f"{stage}-{what}",
    )


# Two targets of one pivot, merged by two rules; one of them answers and is judged.
CHAIN = [
    link("data", "dialogues"),
    link("train", "numbers", made_of={"initial": "pivot", "text": "d1"}, objective="ce"),
    link("train", "letters", made_of={"initial": "pivot", "text": "d1"}, objective="ce"),
    link("merge", "ties", made_of={"target-0": "train-numbers", "target-1": "train-letters"}),
    link("merge", "sce", made_of={"target-0": "train-numbers", "target-1": "train-letters"}),
    link("answers", "sce · mt", made_of={"weights": "merge-sce"}, asked="q1"),
    link("verdicts", "sce · mt", plan="p1", judge={"type": "Reference"}),
    link("score", "all models"),
    link("table", "all models"),
]


def edited(edits: dict[tuple[str, str], dict[str, object]], *, rekeyed: tuple[str, ...] = ()) -> list[Link]:
    """The chain with some links replaced; those of the stages `rekeyed` were computed again under another key."""
    renamed = {one.key: f"{one.key}*" for one in CHAIN if one.stage in rekeyed}
    found = []
    for one in CHAIN:
        fields: dict[str, object] = {
            "key": renamed.get(one.key, one.key),
            "content": renamed.get(one.content, one.content),
            "inputs": {role: renamed.get(key, key) for role, key in one.inputs.items()},
        }
        found.append(replace(one, **{**fields, **edits.get((one.stage, one.what), {})}))  # type: ignore[arg-type]
    return found


def seen(changes: list[Change]) -> list[tuple[str, str, bool, list[str]]]:
    return [(one.stage, one.what, one.first, [str(cause) for cause in one.causes]) for one in changes]


OTHER = {"output": {"model.safetensors": "2"}}
FROM_MERGE = ("merge", "answers", "verdicts", "score", "table")


def test_a_chain_like_the_kept_one_has_no_changes():
    assert compare_chains(CHAIN, CHAIN) == []


def test_a_changed_module_is_named_at_the_first_artifact_whose_content_it_changed():
    code = {"fusion.merge": "2", "fusion.shared": "1"}
    now = edited(
        {
            ("merge", "ties"): {"code": code},
            ("merge", "sce"): {"code": code, **OTHER},
            ("answers", "sce · mt"): OTHER,
            ("score", "all models"): OTHER,
        },
        rekeyed=FROM_MERGE,
    )
    changes = compare_chains(now, CHAIN)
    assert seen(changes) == [
        ("merge", "ties", False, ["code: fusion.merge"]),
        ("merge", "sce", True, ["code: fusion.merge"]),
        ("answers", "sce · mt", False, []),
        ("verdicts", "sce · mt", False, []),
        ("score", "all models", False, []),
        ("table", "all models", False, []),
    ]
    assert [one.status for one in changes] == [
        "same bytes",
        "changed",
        "changed",
        "same bytes",
        "changed",
        "same bytes",
    ]
    assert [one.what for one in changes if one.fails] == ["sce"]
    assert list(chain_lines(changes)) == [
        "changed first: merge sce (model.safetensors)",
        "    code: fusion.merge",
        "changed with it: answers 1, score 1",
        "no harm: merge ties computed again, with the same bytes",
        "    code: fusion.merge",
    ]


def test_code_that_changes_no_byte_does_no_harm():
    now = edited({("merge", "sce"): {"code": {"fusion.merge": "2", "fusion.shared": "1"}}}, rekeyed=FROM_MERGE)
    changes = compare_chains(now, CHAIN)
    assert {one.status for one in changes} == {"same bytes"}
    assert not any(one.fails for one in changes)


@pytest.mark.parametrize(
    ("edit", "cause", "fails"),
    [
        ({"config": {"objective": "kl"}, "key": "k"}, "config: objective ce -> kl", True),
        ({"inputs": {"initial": "other", "text": "d1"}, "key": "k"}, "data: the input initial is another", True),
        ({"versions": {"torch": "2.1", "processor": "A"}}, "library: torch 2.0 -> 2.1", False),
        ({"versions": {"torch": "2.0", "processor": "B"}}, "library: processor A -> B", False),
        ({}, "unexplained: the same recipe gave other bytes", False),
    ],
)
def test_a_setting_a_file_a_library_and_no_reason_at_all_are_distinguishable(edit, cause, fails):
    (change,) = compare_chains(edited({("train", "letters"): {**OTHER, **edit}}), CHAIN)
    assert (change.stage, change.what, change.first, change.fails) == ("train", "letters", True, fails)
    assert len(change.causes) == 1
    assert str(change.causes[0]).startswith(cause)


def test_a_library_that_changed_no_byte_is_not_told():
    now = [replace(one, versions={"torch": "2.1", "processor": "A"}) for one in CHAIN]
    assert compare_chains(now, CHAIN) == []


def test_other_text_follows_from_other_data_and_is_a_cause_where_the_data_did_not_change():
    other_text = {"inputs": {"initial": "pivot", "text": "d2"}, "key": "k", **OTHER}
    from_data = edited({("data", "dialogues"): {"config": {"seed": 1}, **OTHER}, ("train", "numbers"): other_text})
    assert seen(compare_chains(from_data, CHAIN)) == [
        ("data", "dialogues", True, ["config: seed unset -> 1"]),
        ("train", "numbers", False, []),
    ]
    (alone,) = compare_chains(edited({("train", "numbers"): other_text}), CHAIN)
    assert (alone.first, alone.causes[0].kind) == (True, "data")


def test_what_a_judge_is_shown_is_a_cause_only_where_the_answers_are_the_same():
    shown = {"config": {"plan": "p2", "judge": {"type": "Reference"}}, "key": "k", **OTHER}
    (change,) = compare_chains(edited({("verdicts", "sce · mt"): shown}), CHAIN)
    assert (change.stage, change.first, change.causes[0].kind) == ("verdicts", True, "data")
    assert "the judge is shown something else" in change.causes[0].text
    answers, verdicts = compare_chains(edited({("answers", "sce · mt"): OTHER, ("verdicts", "sce · mt"): shown}), CHAIN)
    assert answers.first
    assert (verdicts.first, verdicts.causes) == (False, ())


def test_a_second_cause_further_down_is_told_beside_the_first():
    code = {"fusion.verdicts": "2", "fusion.shared": "1"}
    now = edited(
        {
            ("merge", "sce"): {"config": {"tau": 0.5}, **OTHER},
            ("answers", "sce · mt"): OTHER,
            ("verdicts", "sce · mt"): {"code": code, **OTHER},
        },
        rekeyed=FROM_MERGE,
    )
    assert list(chain_lines(compare_chains(now, CHAIN)))[:4] == [
        "changed first: merge sce (model.safetensors)",
        "    config: tau unset -> 0.5",
        "changed also by itself: verdicts sce · mt",
        "    code: fusion.verdicts",
    ]


def test_artifacts_of_one_chain_only_are_told():
    now = [*CHAIN[:4], link("merge", "dare", made_of={"target-0": "train-numbers"}), *CHAIN[5:]]
    assert [(one.what, one.status) for one in compare_chains(now, CHAIN)] == [("dare", "new"), ("sce", "gone")]


def test_a_chain_is_read_back_as_it_was_kept(tmp_path):
    write_chain(CHAIN, tmp_path / "chain.json")
    assert load_chain(tmp_path / "chain.json") == CHAIN
    assert load_chain(tmp_path / "none.json") == []


def test_the_pages_say_what_left_its_interval_and_name_the_artifact():
    (change,) = compare_chains(
        edited({("merge", "sce"): {"code": {"fusion.merge": "2"}, "key": "k", **OTHER}}), CHAIN[:]
    )
    place = {"model": "sce", "benchmark": "mt", "metric": "rating", "slice": "all"}
    moved = Moved(kind="regressed", **place, before=9.0, low=8.5, high=9.5, after=7.0, reason="\x00")  # type: ignore[arg-type]
    found = Check(
        places=("pivot mt rating all", "sce mt rating all"),
        moved=(moved,),
        links=("merge ties", "merge sce"),
        changes=(change,),
    )
    assert found.verdict == "failed: 1 of 2 metrics left their intervals"
    assert "changed first: merge sce" in text(found)
    assert "| **regressed** | sce | mt | rating | all | 9.000 | 8.500 to 9.500 | 7.000 |" in markdown(found)
    suites = ElementTree.fromstring(junit(found))
    counts = {suite.get("name"): (suite.get("tests"), suite.get("failures")) for suite in suites}
    assert counts == {"metrics": ("2", "1"), "artifacts": ("2", "1")}
    failed = {case.get("name"): case.findtext("failure") for case in suites.iter("testcase") if len(case)}
    assert failed.keys() == {"sce mt rating all", "merge sce"}
    assert "9.000 [8.500, 9.500] -> 7.000 (-2.000)" in str(failed["sce mt rating all"])
    assert "code: fusion.merge" in str(failed["sce mt rating all"])


RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from ablations.regression.__main__ import run
from fusion.runtime.artifacts import Store
from fusion.doubling import double
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Stage

store, progress = Store(root=Path("artifacts")), RunProgress()
numbers = {"data": lambda out: [1, 2, 3], "merge": lambda out: [double(1), double(2), double(3)]}
content = ""
for stage, module in (("data", "fusion.runtime.configure"), ("merge", "fusion.doubling")):
    def build(out, advance):
        (out / "numbers.json").write_text(json.dumps(numbers[stage](out)))
    made_of = Stage(name=stage, what="numbers", config={}, inputs={"made_of": content}, modules=(module,), build=build)
    made = progress.produce(store, made_of)
    content = made.content
value = json.loads((made.path / "numbers.json").read_text())[0]
report = Path("report")
report.mkdir(exist_ok=True)
columns = "model,group,benchmark,metric,slice,value,low,high,n,unscored"
(report / "scores.csv").write_text(f"{columns}\\nm,Merged,b,rating,all,{value},-9,9,3,0\\n")
(report / "items.csv").write_text(f"value\\n{value}\\n")
cell = {"name": "c", "experiment": "trial", "seed": 0, "axes": {}}
(report / "cell.json").write_text(json.dumps(cell | {"stages": [asdict(one) for one in progress.records()]}))
sys.exit(run({"scores": "report/scores.csv", "baseline": "kept.json", "update": sys.argv[1:] == ["update"]}))
"""


def test_a_sign_broken_in_the_code_is_named_even_where_every_metric_stays_inside_its_interval(tmp_path):
    for package in ("fusion", "eval", "ablations"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "run.py").write_text(RUN)
    rule = tmp_path / "fusion" / "doubling.py"

    def check(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        rule.write_text(source)
        command = [sys.executable, "-B", "run.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})

    kept = check("def double(x):\n    return 2 * x\n", "update")
    assert kept.returncode == 0, kept.stderr
    rewritten = check("def double(x):\n    return x + x\n")
    assert rewritten.returncode == 0, rewritten.stderr
    assert "no harm: merge numbers computed again, with the same bytes\n    code: fusion.doubling" in rewritten.stdout
    broken = check("def double(x):\n    return -2 * x\n")
    assert broken.returncode == 1, broken.stderr
    assert "changed first: merge numbers (numbers.json)\n    code: fusion.doubling" in broken.stdout
    assert "failed: 1 metrics within their intervals, but merge numbers changed" in broken.stdout
