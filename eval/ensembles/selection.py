"""What a rule that selects an answer is shown of it.

    options[question_id][i]     # source i's answer to the question, in the sources' order
    rule.choose(options)        # {question_id: i}

A selected answer is the source's own answer to the same question, so the judge's verdict on it stands and nothing is
asked again.  With two turns both come from one source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar

from eval.likelihood.surprise import Surprise
from eval.records import Answer


@dataclass(frozen=True, kw_only=True)
class Option:
    """One source's answer to a question of `benchmark`.

    `score` is the mean of the benchmark's main score over the question's turns, in inner units; None unless every turn
    was scored.  `surprise` is None where it was not measured or could not be.
    """

    benchmark: str
    model: str
    answer: Answer
    score: float | None = None
    surprise: Surprise | None = None

    @property
    def complete(self) -> bool:
        """Whether the source answered every turn."""
        return self.answer.reason is None


Options = Mapping[str, Sequence[Option]]
# What a row of a rule that writes is to its caller.
Made = TypeVar("Made", covariant=True)
# What a rule needs besides answers and verdicts: the members as models, their perplexities on what they said.
Need = Literal["models", "perplexities"]


class Selects:
    """What is so of a rule that selects, unless it says otherwise."""

    selects: ClassVar[bool] = True
    oracle: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()


class Selection(Protocol):
    """A rule that selects; `oracle` says what it knows that no system could, empty when it is fair."""

    selects: ClassVar[bool]
    oracle: ClassVar[str]
    needs: ClassVar[frozenset[Need]]

    def choose(self, options: Options) -> dict[str, int]:
        """The chosen source's place in the sources' order, per question."""


def best(options: Sequence[Option], value: Callable[[Option], float | None]) -> int:
    """The place of the complete option with the largest value, the first of several; 0 where none has a value.

    So where nothing can be compared the first source's answer, or its failure, stands.
    """
    found, place = None, 0
    for number, option in enumerate(options):
        own = value(option) if option.complete else None
        if own is not None and (found is None or own > found):
            found, place = own, number
    return place
