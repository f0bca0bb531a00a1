"""What a reader can look up behind a score: questions, answers on both sides, verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from eval.benchmarks.protocol import LoadedBenchmark
from eval.records import Answer, Unscored, Verdict
from eval.scored import ShownAnswers


def shown_answers(
    benchmark: LoadedBenchmark, answers: Sequence[Answer], verdicts: Sequence[Verdict | Unscored]
) -> ShownAnswers:
    """What can be looked up of one model: its answers, and those that the judge saw beside them."""
    turns: dict[tuple[str, str], dict[int, str]] = {}
    for request in benchmark.plan(answers).requests:
        if len(request.answers) == 2:
            other = request.answers[1 if request.switched else 0]
            name = request.opponent or benchmark.baseline_name
            turns.setdefault((name, request.question_id), {})[request.turn] = other
    opponents = (
        Answer(question_id=question, model=model, turns=tuple(said.get(turn, "") for turn in range(1, max(said) + 1)))
        for (model, question), said in turns.items()
    )
    return ShownAnswers(
        questions=benchmark.questions, answers=tuple(answers), opponents=tuple(opponents), verdicts=tuple(verdicts)
    )
