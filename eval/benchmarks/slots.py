"""A slot is one turn of one question: it ends with a verdict, or with the reason for none, and never with two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from eval.exchange import JudgeRequest, Reply
from eval.records import Answer, Placed, Question, Unscored, UnscoredKind, Verdict
from fusion.runtime.configure import Refusal

# The judge's name in records that no judge was asked about.
NOBODY = "none"


def all_slots(questions: Iterable[Question]) -> list[tuple[Question, int]]:
    """Every turn of every question, in order; turns count from 1."""
    return [(question, turn) for question in questions for turn in range(1, len(question.turns) + 1)]


def by_question(answers: Sequence[Answer]) -> dict[str, Answer]:
    """One answer per question.  Raises Refusal when two models' answers, or two to one question, are mixed."""
    models = list(dict.fromkeys(answer.model for answer in answers))
    if len(models) > 1:
        raise Refusal(f"answers of {len(models)} models in one set ({', '.join(models[:3])}): evaluate one at a time")
    found: dict[str, Answer] = {}
    for answer in answers:
        if answer.question_id in found:
            raise Refusal(f"two answers of {answer.model} to question {answer.question_id}: expected one")
        found[answer.question_id] = answer
    return found


def settle_missing(
    slots: Sequence[tuple[Question, int]], answers: Sequence[Answer]
) -> tuple[list[tuple[Question, int, Answer]], list[Unscored]]:
    """The slots that were answered, with the answer, and unscored records of the others.

    Raises Refusal when the answers belong to other questions altogether.
    """
    found = by_question(answers)
    if found and not any(question.id in found for question, _ in slots):
        raise Refusal(
            f"none of the {len(found)} answers belongs to these questions: the first answers"
            f" question {next(iter(found))}, the first question is {slots[0][0].id}"
        )
    answered, settled = [], []
    for question, turn in slots:
        answer = found.get(question.id)
        if answer is not None and len(answer.turns) >= turn:
            answered.append((question, turn, answer))
            continue
        reason = "no answer" if answer is None else answer.reason or f"no answer to turn {turn}"
        settled.append(Unscored(question_id=question.id, turn=turn, reason=reason, judge=NOBODY, kind="no_answer"))
    return answered, settled


def read_reply(
    request: JudgeRequest, reply: Reply, *, judge: str, parse: Callable[[Reply], float]
) -> Verdict | Unscored:
    """The value that `parse` finds in the reply; its ValueError becomes the reason why the slot is unscored."""

    common: dict[str, Any] = {
        **{field.name: getattr(request, field.name) for field in fields(Placed)},
        "judge": judge,
        "text": reply.text,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }
    if reply.failure is not None:
        kind: UnscoredKind = "not_recorded" if reply.missing else "rejected" if reply.rejected else "no_reply"
        return Unscored(**common, reason=reply.failure, kind=kind)
    try:
        value = parse(reply)
    except ValueError as error:
        return Unscored(**common, reason=str(error), kind="unreadable")
    return Verdict(**common, value=value, top_logprobs=reply.top_logprobs)
