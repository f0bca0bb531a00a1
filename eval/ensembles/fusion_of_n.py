"""Fusion-of-N (2510.00931): one model reads the question and all sources' answers and writes its own.

The paper gives no code; the prompt is ours.  With two turns the fusor is asked turn by turn in one conversation: its
second prompt shows the sources' second answers, each of which followed that source's own first answer.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeVar

import jinja2

from eval.ensembles.random_source import draw
from eval.ensembles.selection import Made, Need
from eval.records import Answer, Question
from fusion.runtime.configure import Refusal
from fusion.runtime.places import CONF, settings_file

T = TypeVar("T")


class Asks(Protocol[Made]):
    """Members whose answers are known, beside models that can be asked."""

    @property
    def questions(self) -> tuple[Question, ...]:
        """The benchmark's."""

    @property
    def said(self) -> Sequence[Mapping[str, Answer]]:
        """Each member's answers by question."""

    def ask(self, model: str, questions: tuple[Question, ...]) -> Made:
        """The answers of one model of the run to other questions than the benchmark's."""


@dataclass(frozen=True, kw_only=True)
class FusionOfN:
    """`fusor` is a model of the run by its name in the table; `prompt` a Jinja file below conf/ (or an absolute path)
    that is given `question`, `answers` and `turn`.  The order of the answers is drawn from `seed` and the question.
    """

    selects: ClassVar[bool] = False
    oracle: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset({"models"})
    together: ClassVar[bool] = False

    fusor: str = "pivot"
    seed: int = 0
    prompt: str = "ensembles/fusion_of_n.jinja"

    def check(self, models: Collection[str]) -> None:
        """Raises Refusal when the fusor is none of the run's models."""
        if self.fusor not in models:
            raise Refusal(
                f"ensembles.fusion_of_n.fusor is {self.fusor!r}: expected a model of this run, {', '.join(models)}"
            )

    def row(self, members: Asks[T]) -> T:
        return members.ask(self.fusor, self.questions(members.questions, members.said))

    def questions(self, questions: Sequence[Question], answers: Sequence[Mapping[str, Answer]]) -> tuple[Question, ...]:
        """The benchmark's questions with what the fusor is asked in place of the turns.  `answers`: per source, by
        question.  A source that did not answer a turn is not shown there.  Raises Refusal for an unreadable prompt.
        """
        path = settings_file(self.prompt) or CONF / self.prompt
        try:
            template = jinja2.Template(path.read_text(), undefined=jinja2.StrictUndefined, keep_trailing_newline=False)
        except (OSError, ValueError, jinja2.TemplateError) as error:
            raise Refusal(f"ensembles.fusion_of_n.prompt: {path} cannot be read ({error})") from error
        return tuple(self._asked(question, template, answers) for question in questions)

    def _asked(
        self, question: Question, template: jinja2.Template, answers: Sequence[Mapping[str, Answer]]
    ) -> Question:
        order = list(range(len(answers)))
        random.Random(draw(self.seed, question.id)).shuffle(order)
        turns = []
        for turn, text in enumerate(question.turns):
            said = [answers[place][question.id].turns[turn : turn + 1] for place in order]
            shown = [one for turns_said in said for one in turns_said]
            turns.append(template.render(question=text, answers=shown, turn=turn + 1))
        return replace(question, turns=tuple(turns))
