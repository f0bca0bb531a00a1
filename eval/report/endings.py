"""How answers ended, where that bears on what their scores mean: cut, empty, or with thinking taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.records import Answer
from eval.scored import ScoredModel

# What is counted, in turns of one answer, and the sentence that begins the counts.
_KINDS: tuple[tuple[str, Callable[[Answer], int]], ...] = (
    ("Cut at max_tokens", lambda answer: len(answer.cut)),
    ("Empty", lambda answer: sum(not turn.strip() for turn in answer.turns)),
    ("Judged without the thinking that they began with", lambda answer: answer.thought),
    ("Without an answer", lambda answer: answer.reason is not None),
)


def ending_notes(scored: Sequence[ScoredModel]) -> list[str]:
    """A sentence for each kind that occurs: how many answered turns, of which models on which benchmarks.

    Models read back from tables have no answers, and are not counted.
    """
    found = []
    for begins, count in _KINDS:
        told = []
        for entry in scored:
            answers = entry.shown.answers if entry.shown is not None else ()
            if number := sum(map(count, answers)):
                turns = sum(len(answer.turns) or 1 for answer in answers)
                told.append(f"{number} of {turns} of {entry.model} on {entry.benchmark}")
        if told:
            found.append(f"{begins}: {'; '.join(told)}.")
    return found
