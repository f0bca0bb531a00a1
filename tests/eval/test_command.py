"""python -m eval on files alone: own instructions and baselines, recorded verdicts, the package's files, refusals."""

import csv
import json
import sys

import pytest

from eval.__main__ import run
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal

NUMBERS = ("one", "two", "three", "four")


@pytest.fixture
def files(tmp_path):
    """An instruction set of one's own with known answers, and a model's outputs: better, worse, better, equal."""
    rows = [
        {"instruction": f"spell {i}", "output": said, "generator": "mine", "dataset": "odd" if i % 2 else "even"}
        for i, said in enumerate(("on", "two", "xx", "four"))
    ]
    (tmp_path / "questions.json").write_text(
        json.dumps([{**row, "reference": known} for row, known in zip(rows, NUMBERS, strict=True)])
    )
    (tmp_path / "outputs.json").write_text(
        json.dumps(
            [
                {"instruction": f"spell {i}", "output": said, "generator": "model"}
                for i, said in enumerate(("one", "too", "thre", "four"))
            ]
        )
    )
    return tmp_path


def evaluate(folder, *overrides, out="out"):
    """The rows of scores.csv by metric."""
    settings = compose(
        "eval",
        [
            "benchmark=alpaca_eval",
            f"benchmark.alpaca_eval.questions={folder}/questions.json",
            f"paths.artifacts={folder}/artifacts",
            f"out={folder}/{out}",
            *overrides,
        ],
    )
    assert not run(settings)
    with (folder / out / "scores.csv").open() as stream:
        return {row["metric"]: row for row in csv.DictReader(stream)}


def test_own_instructions_and_outputs_are_judged_and_leave_the_packages_files(files):
    rows = evaluate(files, "judge=reference", f"answers={files}/outputs.json")
    assert float(rows["win_rate"]["value"]) == pytest.approx(100 * (1 + 0 + 1 + 0.5) / 4)
    assert rows["length_controlled_win_rate"]["variant"] == "own_set"
    folder = files / "out" / "alpaca_eval" / "model"
    assert {path.name for path in folder.iterdir()} == {
        "annotations.json",
        "model_outputs.json",
        "alpaca_leaderboard.csv",
    }
    assert {row["generator_1"] for row in json.loads((folder / "annotations.json").read_text())} == {"mine"}


def test_a_finished_evaluation_only_reads_its_store(files, reading_only):
    given = [
        "benchmark=alpaca_eval",
        f"benchmark.alpaca_eval.questions={files}/questions.json",
        f"paths.artifacts={files}/artifacts",
        "judge=reference",
        f"answers={files}/outputs.json",
    ]
    rows = evaluate(files, *given)
    ended = reading_only([sys.executable, "-m", "eval", *given, f"out={files}/again"], files / "artifacts")
    assert ended.returncode == 0, ended.stderr
    assert (files / "again" / "scores.csv").read_bytes() == (files / "out" / "scores.csv").read_bytes()
    assert rows["win_rate"]["value"]


def test_recorded_annotations_are_answers_too(files):
    first = evaluate(files, "judge=reference", f"answers={files}/outputs.json")
    annotated = files / "out" / "alpaca_eval" / "model" / "annotations.json"
    with_answers = evaluate(
        files, "judge=recorded", f"judge.file={annotated}", f"answers={files}/outputs.json", out="b"
    )
    without = evaluate(files, "judge=recorded", f"judge.file={annotated}", out="c")
    assert without == with_answers == first
    assert {row["model"] for row in without.values()} == {"model"}
    labelled = evaluate(files, "judge=recorded", f"judge.file={annotated}", "label=mine", out="d")
    assert {row["model"] for row in labelled.values()} == {"mine"}


def test_a_baseline_of_ones_own_changes_the_comparison_and_says_whose_it_is(files):
    baseline = [{"instruction": f"spell {i}", "output": "?", "generator": "sft"} for i in range(4)]
    (files / "baseline.json").write_text(json.dumps(baseline))
    own = f"benchmark.alpaca_eval.baseline={files}/baseline.json"
    rows = evaluate(files, "judge=reference", f"answers={files}/outputs.json", own)
    assert float(rows["win_rate"]["value"]) == pytest.approx(100.0)
    annotated = json.loads((files / "out" / "alpaca_eval" / "model" / "annotations.json").read_text())
    assert {(row["generator_1"], row["output_1"]) for row in annotated} == {("sft", "?")}


def test_both_orders_and_a_subset_are_settings_of_the_benchmark(files):
    rows = evaluate(
        files,
        "judge=reference",
        f"answers={files}/outputs.json",
        "benchmark.alpaca_eval.orders=both",
        "benchmark.alpaca_eval.only=[even]",
    )
    assert float(rows["win_rate"]["value"]) == pytest.approx(100.0)
    assert float(rows["position_bias"]["value"]) == pytest.approx(0.0)
    assert rows["length_controlled_win_rate"]["value"] == ""
    assert "2 of 4 instructions were drawn here" in rows["length_controlled_win_rate"]["reason"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("length_control=numpy2", "numpy2.*numpy1"),
        ("orders=all", "all.*(both|published)"),
        ("limit=0", "limit is 0"),
        ("length_control_c=0", "length_control_c is 0"),
        ("only=[eve]", "no such subset.*even"),
    ],
)
def test_settings_that_do_not_exist_are_refused_with_what_does(files, override, said):
    with pytest.raises(Refusal, match=said):
        evaluate(files, "judge=reference", f"answers={files}/outputs.json", f"benchmark.alpaca_eval.{override}")


def test_judgments_are_no_answers(tmp_path):
    recorded = tmp_path / "judgments.jsonl"
    row = {"question_id": 81, "turn": 1, "model": "m", "judgment": "Rating: [[7]]", "score": 7, "user_prompt": "..."}
    recorded.write_text(json.dumps(row) + "\n")
    settings = compose(
        "eval", ["benchmark=mt_bench", "judge=recorded", f"judge.file={recorded}", f"out={tmp_path}/out"]
    )
    with pytest.raises(Refusal, match=r"verdicts without the answers .*answers=FILE"):
        run(settings)


def test_nothing_to_evaluate_and_nowhere_to_write_are_refused(tmp_path):
    with pytest.raises(Refusal, match="exactly one of checkpoint"):
        run(compose("eval", ["benchmark=alpaca_eval", f"out={tmp_path}/out"]))
    with pytest.raises(Refusal, match="out is missing"):
        run(compose("eval", ["benchmark=alpaca_eval"]))
