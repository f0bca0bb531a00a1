"""What the answers browser is given to show."""

from __future__ import annotations

import json

from eval.benchmarks import BENCHMARKS
from eval.benchmarks.protocol import BenchmarkFiles
from eval.judging.shown import shown_answers
from eval.records import Answer, Verdict


def test_the_baseline_s_answers_are_those_the_judge_saw_whatever_the_order(tmp_path):
    rows = [
        {"instruction": f"Say {i}.", "output": f"baseline {i}", "generator": "reference model", "dataset": "d"}
        for i in range(12)
    ]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    benchmark = BENCHMARKS["alpaca_eval"]().load(BenchmarkFiles(questions=tmp_path / "set.json"))
    answers = [Answer(question_id=str(i), model="mine", turns=(f"mine {i}",)) for i in range(11)]
    answers[4] = Answer(question_id="4", model="mine", turns=("baseline 4",))
    verdicts = [Verdict(question_id="0", turn=1, value=1.5, judge="j", text="m")]
    requests = benchmark.plan(answers).requests
    assert {request.switched for request in requests} == {True, False}  # or the order would not be tested
    shown = shown_answers(benchmark, answers, verdicts)
    assert shown.verdicts == tuple(verdicts)
    assert shown.answers == tuple(answers)
    assert len(shown.questions) == 12
    # Neither where the outputs are equal nor where there is no answer was anything shown to a judge.
    expected = {str(i): (f"baseline {i}",) for i in range(11) if i != 4}
    assert {answer.question_id: answer.turns for answer in shown.opponents} == expected
    assert {answer.model for answer in shown.opponents} == {"reference model"}


def test_answers_rated_alone_have_no_opponent(tmp_path):
    row = {"question_id": 1, "category": "c", "turns": ["One?", "Two?"]}
    (tmp_path / "question.jsonl").write_text(json.dumps(row) + "\n")
    benchmark = BENCHMARKS["mt_bench"](questions="question.jsonl").load(
        BenchmarkFiles(questions=tmp_path / "question.jsonl")
    )
    answer = Answer(question_id="1", model="mine", turns=("1", "2"))
    assert shown_answers(benchmark, [answer], []).opponents == ()
