"""What stands in a plan for answers that nobody has given yet."""

from __future__ import annotations

from collections.abc import Sequence

from ablations.plan.work import CHARACTERS_PER_TOKEN
from eval.benchmarks import LoadedBenchmark
from eval.benchmarks.stand_ins import filler
from eval.records import Answer, Question


def answer_tokens(benchmark: LoadedBenchmark, questions: Sequence[Question]) -> float:
    """About how many tokens the answers to some questions have, all turns together."""
    usual = benchmark.usual_answer_tokens
    return sum(len(question.turns) * min(benchmark.sampling(question).max_tokens, usual) for question in questions)


def placeholders(benchmark: LoadedBenchmark, *, model: str, key: str) -> list[Answer]:
    """Answers of about the usual length that differ from those of any other `key`."""
    usual = benchmark.usual_answer_tokens
    return [
        Answer(
            question_id=question.id,
            model=model,
            turns=tuple(
                filler(
                    f"{key} {turn}",
                    int(CHARACTERS_PER_TOKEN * min(benchmark.sampling(question).max_tokens, usual)),
                )
                for turn in range(len(question.turns))
            ),
        )
        for question in benchmark.questions
    ]
