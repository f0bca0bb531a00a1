"""How much work answers are, and what stands in for those that nobody has given yet: what stages say to a planner."""

from __future__ import annotations

from collections.abc import Sequence

from eval.answer.candidate import Candidate
from eval.benchmarks.protocol import Asking
from eval.benchmarks.stand_ins import filler
from eval.records import Answer, Question
from eval.serve import Serve
from eval.serve.memory import served_bytes
from fusion.runtime.work import CHARACTERS_PER_TOKEN, Known, Work


def answering(known: Known, candidate: Candidate, asked: Asking, serve: Serve) -> Work:
    """A served model's answers."""
    size = known.sizes[candidate.weights]
    return Work(
        kind="answers",
        units=2 * size.active * _answer_tokens(asked),
        items=_turns(asked),
        holds=served_bytes(size, serve),
    )


def mixing(known: Known, members: Sequence[Candidate], asked: Asking) -> Work:
    """Answers of several models at once: without a cache every token is a forward pass over all before it."""
    tokens = _answer_tokens(asked)
    context = _prompt_tokens(asked) / len(asked.questions) + tokens / _turns(asked) / 2
    sizes = [known.sizes[member.weights] for member in members]
    return Work(
        kind="represent",
        units=sum(2 * size.active for size in sizes) * tokens * context,
        items=_turns(asked),
        holds=sum(size.bytes for size in sizes),
    )


def reading(known: Known, candidate: Candidate, asked: Asking) -> Work:
    """One forward pass over the questions and the model's own answers."""
    size = known.sizes[candidate.weights]
    units = 2 * size.active * (_answer_tokens(asked) + _prompt_tokens(asked))
    return Work(kind="represent", units=units, items=len(asked.questions), holds=size.bytes)


def placeholders(asked: Asking, *, model: str, key: str) -> list[Answer]:
    """Answers of about the usual length that differ from those of any other `key`."""
    return [
        Answer(
            question_id=question.id,
            model=model,
            turns=tuple(
                filler(f"{key} {turn}", int(CHARACTERS_PER_TOKEN * _tokens_a_turn(asked, question)))
                for turn in range(len(question.turns))
            ),
        )
        for question in asked.questions
    ]


def written_bytes(asked: Asking) -> float:
    """Of answers of the usual length, at one byte a character."""
    return CHARACTERS_PER_TOKEN * _answer_tokens(asked)


def _tokens_a_turn(asked: Asking, question: Question) -> int:
    return min(asked.sampling(question).max_tokens, asked.usual_answer_tokens)


def _answer_tokens(asked: Asking) -> int:
    return sum(len(question.turns) * _tokens_a_turn(asked, question) for question in asked.questions)


def _prompt_tokens(asked: Asking) -> float:
    return sum(len(turn) for question in asked.questions for turn in question.turns) / CHARACTERS_PER_TOKEN


def _turns(asked: Asking) -> int:
    return sum(len(question.turns) for question in asked.questions)
