"""MT-Bench's published judge prompts: which one a turn takes, and how it is filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from eval.benchmarks.fastchat.rules import fastchat_common
from eval.records import Question
from fusion.runtime.configure import Refusal

Prompts = Mapping[str, Mapping[str, Any]]
PromptKind = Literal["single", "pair"]
_NAMES: Mapping[PromptKind, tuple[str, str]] = {
    "single": ("single-v1", "single-math-v1"),
    "pair": ("pair-v2", "pair-math-v1"),
}
_SECOND_TURN = "-multi-turn"


def judge_prompts(path: Path, kind: PromptKind) -> Prompts:
    """The prompts by name.  Raises Refusal for a file that is not fastchat's or lacks one of this kind."""
    try:
        prompts: Prompts = fastchat_common().load_judge_prompts(str(path))
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise Refusal(f"{path} is not fastchat's judge_prompts.jsonl: {error!r}") from error
    for name in (name + turn for name in _NAMES[kind] for turn in ("", _SECOND_TURN)):
        if name not in prompts:
            raise Refusal(f"{path} has no prompt named {name}: fetch the benchmark data again")
    return prompts


def needs_reference(question: Question) -> bool:
    """Whether the judge of this question's category is shown a known answer: fastchat's list of them."""
    return question.category in fastchat_common().NEED_REF_CATS


def prompt_name(kind: PromptKind, question: Question, turn: int) -> str:
    """Its published name: with known answers where the category needs them, with both turns at the second."""
    return _NAMES[kind][needs_reference(question)] + (_SECOND_TURN if turn > 1 else "")


def judge_messages(
    prompts: Prompts, kind: PromptKind, question: Question, turn: int, said: Mapping[str, Sequence[str]]
) -> tuple[Mapping[str, str], ...]:
    """The prompt filled in; none without prompts.  `said`: the turns of each answer shown, by its field in the prompt
    (`answer`, or `answer_a` and `answer_b`).  Raises Refusal when the category needs a known answer and there is none.
    """
    if not prompts:
        return ()
    prompt = prompts[prompt_name(kind, question, turn)]
    if turn > 1:
        shown = {"question": question.turns, **said}
        fields = {f"{field}_{number}": turns[number - 1] for field, turns in shown.items() for number in (1, 2)}
    else:
        fields = {"question": question.turns[0], **{field: turns[0] for field, turns in said.items()}}
    if needs_reference(question):
        if question.references is None or len(question.references) < turn:
            raise Refusal(
                f"question {question.id} is in category {question.category}, whose judge prompt needs a reference"
                " answer, and the reference file has none: set benchmark.<entry>.references"
            )
        fields |= {f"ref_answer_{number}": question.references[number - 1] for number in range(1, turn + 1)}
    # The template is the benchmark's own; questions and answers are arguments, so their braces mean nothing.
    text = prompt["prompt_template"].format(**fields)
    return ({"role": "system", "content": prompt["system_prompt"]}, {"role": "user", "content": text})
