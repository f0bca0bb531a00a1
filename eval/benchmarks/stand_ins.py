"""What stands in a plan for questions whose files are not there.

As many and about as long as the published ones: MT-Bench has 80 questions of two turns in eight categories, AlpacaEval
2 has 805 instructions.  Mean lengths in characters: MT-Bench's turns 202, the corrected references 1,465, answers of
models of 7 B (mistral-orpo, vicuna-7b-v1.3) about 1,050 a turn; AlpacaEval's instructions 165, its baseline's outputs
2,049, answers of Starling-LM-7B-alpha, Mixtral-8x7B-Instruct and Qwen1.5-72B-Chat 1,466 to 1,895.
"""

from __future__ import annotations

from collections.abc import Mapping

from eval.records import Question

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


def mt_bench() -> tuple[Question, ...]:
    """80 questions of two turns."""
    return tuple(
        Question(
            id=f"{category}-{number}",
            category=category,
            turns=(filler("question", 202),) * 2,
            references=(filler("reference", 1465),) * 2,
        )
        for category in _CATEGORIES
        for number in range(10)
    )


def mt_bench_prompts() -> Mapping[str, Mapping[str, str]]:
    """The single ratings' prompts by name."""
    return {
        name: {
            "prompt_template": filler("", template - len(_FIELDS[name])) + _FIELDS[name],
            "system_prompt": "x" * system,
        }
        for name, (template, system) in _SINGLE.items()
    }


def alpaca_eval(limit: int | None) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """805 instructions, or the first so many, and the baseline's outputs."""
    instructions = tuple(
        Question(id=str(number), category="", turns=(filler(f"instruction {number}", 165),))
        for number in range(min(limit or 805, 805))
    )
    return instructions, tuple(filler(f"output {question.id}", 2049) for question in instructions)


def filler(start: str, characters: int) -> str:
    """A text of that many characters that begins so."""
    return start.ljust(characters, "x")
