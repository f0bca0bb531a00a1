"""AlpacaEval results as the alpaca-eval package's own files: its functions and our replay read the same numbers."""

import csv
import json
from dataclasses import replace

import pytest

from eval.benchmarks import AlpacaEval
from eval.benchmarks.protocol import BenchmarkFiles
from eval.files import read_rows
from eval.judges import Recorded
from eval.judging.collect import collect_verdicts
from eval.judging.shown import shown_answers
from eval.records import Answer, Unscored, Verdict
from eval.report.packages.alpaca import annotation_rows, leaderboard_row, write_alpaca_files
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty

ROWS = [
    {"instruction": f"say {i}", "output": f"baseline {i}", "generator": "base", "dataset": "letters"} for i in range(5)
]
TOP = (("m", -0.1), ("M", -2.4))
FEW = Uncertainty()


def load(tmp_path):
    path = tmp_path / "instructions.json"
    path.write_text(json.dumps(ROWS))
    return AlpacaEval().load(BenchmarkFiles(questions=path))


def entry(benchmark, said, verdicts, model="org/my model"):
    return ScoredModel(
        model=model,
        group="Models",
        benchmark="alpaca_eval",
        metrics=tuple(benchmark.metrics(verdicts, said, FEW)),
        items=(),
        shown=shown_answers(benchmark, said, verdicts),
    )


@pytest.fixture
def scored(tmp_path):
    """Won, lost, nearly even, equal outputs, and one that the judge would not answer."""
    benchmark = load(tmp_path)
    texts = ["own 0 is long", "own 1", "own 2 <|im_end|> é", "baseline 3", "own 4"]
    said = [Answer(question_id=str(i), model="org/my model", turns=(text,)) for i, text in enumerate(texts)]
    verdicts = [
        *benchmark.plan(said).settled,
        Verdict(question_id="0", turn=1, value=1.9090909090909092, judge="j", text="m", top_logprobs=TOP),
        Verdict(question_id="1", turn=1, value=1.0, judge="j", text="M"),
        Verdict(question_id="2", turn=1, value=1.6, judge="j", text="m"),
        Unscored(question_id="4", turn=1, reason="it declined", judge="j", text="I cannot"),
    ]
    return benchmark, entry(benchmark, said, verdicts)


def test_an_annotation_has_the_packages_fields_and_what_the_judge_said(scored):
    _, found = scored
    rows = annotation_rows(found.model, found.shown, annotator="weighted_alpaca_eval_gpt4_turbo")
    assert rows[0] == {
        "dataset": "letters",
        "instruction": "say 0",
        "output_1": "baseline 0",
        "generator_1": "base",
        "output_2": "own 0 is long",
        "generator_2": "org/my model",
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": 1.9090909090909092,
        "raw_completion": {
            "text": "m",
            "logprobs": {
                "content": [
                    {"token": "m", "top_logprobs": [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.4}]}
                ]
            },
        },
    }
    assert [row["preference"] for row in rows] == [1.9090909090909092, 1.0, 1.6, 1.5, None]
    assert rows[3]["output_1"] == rows[3]["output_2"] == "baseline 3"
    assert rows[4]["raw_completion"] == {"text": "I cannot"}


def test_the_package_reads_the_same_rates_from_our_files(scored, tmp_path):
    import pandas
    from alpaca_eval import evaluate
    from alpaca_eval.metrics import get_winrate

    _, found = scored
    (folder,) = write_alpaca_files([found], tmp_path, annotator="weighted_alpaca_eval_gpt4_turbo")
    assert folder == tmp_path / "alpaca_eval" / "org_my_model"
    theirs = get_winrate(pandas.read_json(folder / "annotations.json"))
    # Shares .909..., 0, .6, .5 and one left out: two wins, one loss, one draw.
    assert theirs["win_rate"] == pytest.approx(100 * (0.9090909090909092 + 0 + 0.6 + 0.5) / 4)
    assert (theirs["n_wins"], theirs["n_wins_base"], theirs["n_draws"], theirs["n_total"]) == (2, 1, 1, 4)
    table, _ = evaluate(
        model_outputs=None,
        reference_outputs=str(tmp_path / "none.json"),
        precomputed_leaderboard=str(tmp_path / "alpaca_eval" / "*" / "alpaca_leaderboard.csv"),
        is_return_instead_of_print=True,
        is_cache_leaderboard=False,
    )
    row = table.loc["org/my model"]
    for name in ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "n_total"):
        assert row[name] == pytest.approx(theirs[name])
    outputs = pandas.read_json(folder / "model_outputs.json")
    assert row["avg_length"] == int(outputs["output"].str.len().mean())
    assert set(outputs["generator"]) == {"org/my model"}


def test_a_rate_that_is_not_the_packages_stays_out_of_its_leaderboard(scored):
    _, found = scored
    own_set = next(row for row in found.metrics if row.metric == "length_controlled_win_rate")
    assert own_set.variant == "own_set"
    found = replace(found, metrics=(replace(own_set, value=50.0, reason=None),))
    assert leaderboard_row(found, found.shown)["length_controlled_winrate"] is None


def test_our_annotations_replay_to_the_same_numbers(scored, tmp_path):
    benchmark, found = scored
    (folder,) = write_alpaca_files([found], tmp_path, annotator="weighted_alpaca_eval_gpt4_turbo")
    path = folder / "annotations.json"
    said = benchmark.read_answers(path)
    assert [answer.model for answer in said] == ["org/my model"] * 5
    verdicts = collect_verdicts(
        benchmark=benchmark, plan=benchmark.plan(said), judge=Recorded(file=str(path)), journal=tmp_path / "v.jsonl"
    )
    again = benchmark.metrics(verdicts, said, FEW)
    assert [(row.metric, row.value, row.low, row.high, row.n) for row in again] == [
        (row.metric, row.value, row.low, row.high, row.n) for row in found.metrics
    ]


def test_both_orders_are_kept_beside_their_mean(tmp_path):
    benchmark = load(tmp_path)
    said = [Answer(question_id="0", model="m", turns=("own",))]
    verdicts = [
        Verdict(question_id="0", turn=1, value=1.75, judge="j", text="m", order=1),
        Verdict(question_id="0", turn=1, value=1.25, judge="j", text="m", order=2),
    ]
    (row,) = annotation_rows("m", shown_answers(benchmark, said, verdicts), annotator="a")
    assert row["preference"] == 1.5
    assert row["raw_completion_shown_first"] == row["raw_completion_shown_second"] == {"text": "m"}


def test_a_hostile_model_name_stays_inside_the_folder(scored, tmp_path):
    _, found = scored
    for name in ("../../x", "..", "a/b"):
        renamed = ScoredModel(**{**found.__dict__, "model": name})
        (folder,) = write_alpaca_files([renamed], tmp_path, annotator="a")
        assert folder.resolve().parent == (tmp_path / "alpaca_eval").resolve()


def test_results_without_answers_or_of_other_benchmarks_write_nothing(scored, tmp_path):
    _, found = scored
    bare = ScoredModel(**{**found.__dict__, "shown": None})
    other = ScoredModel(**{**found.__dict__, "benchmark": "mt_bench"})
    assert write_alpaca_files([bare, other], tmp_path, annotator="a") == []


@pytest.mark.parametrize("model", ["FuseChat-Qwen-2.5-7B-Instruct"])
def test_published_annotations_written_back_keep_every_preference_and_the_leaderboard_row(data_root, tmp_path, model):
    annotated = data_root / "alpaca_eval" / "annotations" / f"{model}.json.gz"
    if not annotated.exists():
        pytest.skip(f"{annotated} is not there: it comes with the published annotations, which are optional")
    settings = AlpacaEval(questions="alpaca_eval/alpaca_eval_gpt4_baseline.json", gamed="alpaca_eval/df_gamed.csv")
    benchmark = settings.load(settings.files(data_root))
    said = benchmark.read_answers(annotated)
    verdicts = collect_verdicts(
        benchmark=benchmark,
        plan=benchmark.plan(said),
        judge=Recorded(file=str(annotated)),
        journal=tmp_path / "v.jsonl",
    )
    found = entry(benchmark, said, verdicts, model=model)
    theirs = read_rows(annotated)
    ours = annotation_rows(model, found.shown, annotator="weighted_alpaca_eval_gpt4_turbo")
    names = ("dataset", "instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator", "preference")
    assert [[row[name] for name in names] for row in ours] == [[row[name] for name in names] for row in theirs]
    with (data_root / "alpaca_eval" / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open() as stream:
        stated = next(row for row in csv.DictReader(stream) if row[""] == model)
    row = leaderboard_row(found, found.shown)
    assert list(row) == list(stated)[1:]
    assert row.pop("mode") == "community"
    assert {name: pytest.approx(float(stated[name]), abs=1e-6) for name in row} == row
