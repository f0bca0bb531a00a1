"""What stands in a plan for questions whose files are not there, and for answers that do not exist yet.

As many and about as long as the published ones: MT-Bench has 80 questions of two turns in eight categories, AlpacaEval
2 has 805 instructions.  Mean lengths in characters: MT-Bench's turns 202, the corrected references 1,465, answers of
models of 7 B (mistral-orpo, vicuna-7b-v1.3) about 1,050 a turn; AlpacaEval's instructions 165, its baseline's outputs
2,049, answers of Starling-LM-7B-alpha, Mixtral-8x7B-Instruct and Qwen1.5-72B-Chat 1,466 to 1,895.
"""

from __future__ import annotations

from collections.abc import Sequence

from ablations.plan_work import CHARACTERS_PER_TOKEN
from eval.benchmarks import AlpacaEval, JudgedBenchmark, LoadedBenchmark, MTBench
from eval.benchmarks.alpaca_eval import LoadedAlpacaEval
from eval.benchmarks.mt_bench import LoadedMTBench
from eval.records import Answer, Question

_ANSWER_TOKENS = {"mt_bench": 260, "mt_bench_pairwise": 260, "alpaca_eval": 400}  # of one turn, where max_tokens allows
_CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
# Characters of the published prompts' templates and system prompts, by name.
_SINGLE = {
    "single-v1": (641, 28),
    "single-math-v1": (767, 28),
    "single-v1-multi-turn": (212, 613),
    "single-math-v1-multi-turn": (405, 640),
}
_FIELDS = {
    "single-v1": "{question}{answer}",
    "single-math-v1": "{question}{answer}{ref_answer_1}",
    "single-v1-multi-turn": "{question_1}{answer_1}{question_2}{answer_2}",
    "single-math-v1-multi-turn": "{question_1}{answer_1}{question_2}{answer_2}{ref_answer_1}{ref_answer_2}",
}


def stand_in(benchmark: JudgedBenchmark) -> LoadedBenchmark | None:
    """A benchmark loaded without its files; None where nothing is known of what it would ask."""
    if isinstance(benchmark, MTBench) and benchmark.questions is not None:
        questions = tuple(
            Question(
                id=f"{category}-{number}",
                category=category,
                turns=(_text("question", 202),) * 2,
                references=(_text("reference", 1465),) * 2,
            )
            for category in _CATEGORIES
            for number in range(10)
        )
        prompts = {
            name: {
                "prompt_template": _text("", template - len(_FIELDS[name])) + _FIELDS[name],
                "system_prompt": "x" * system,
            }
            for name, (template, system) in _SINGLE.items()
        }
        return LoadedMTBench(settings=benchmark, questions=questions, prompts=prompts)
    if isinstance(benchmark, AlpacaEval) and benchmark.questions is not None:
        instructions = tuple(
            Question(id=str(number), category="", turns=(_text(f"instruction {number}", 165),))
            for number in range(min(benchmark.limit or 805, 805))
        )
        return LoadedAlpacaEval(
            settings=benchmark,
            questions=instructions,
            whole=instructions,
            baseline=tuple(_text(f"output {question.id}", 2049) for question in instructions),
            baseline_name="baseline",
            gamed=None,
        )
    return None


def answer_tokens(benchmark: LoadedBenchmark, questions: Sequence[Question]) -> float:
    """About how many tokens the answers to some questions have, all turns together."""
    usual = _ANSWER_TOKENS.get(benchmark.name, 260)
    return sum(len(question.turns) * min(benchmark.sampling(question).max_tokens, usual) for question in questions)


def placeholders(benchmark: LoadedBenchmark, *, model: str, key: str) -> list[Answer]:
    """Answers of about the usual length that differ from those of any other `key`."""
    usual = _ANSWER_TOKENS.get(benchmark.name, 260)
    return [
        Answer(
            question_id=question.id,
            model=model,
            turns=tuple(
                _text(
                    f"{key} {turn}",
                    int(CHARACTERS_PER_TOKEN * min(benchmark.sampling(question).max_tokens, usual)),
                )
                for turn in range(len(question.turns))
            ),
        )
        for question in benchmark.questions
    ]


def _text(start: str, characters: int) -> str:
    return start.ljust(characters, "x")
