"""One way to align, put together from its choices and made ready for two vocabularies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.align.matches import (
    ONE_HOT,
    START,
    Decision,
    Labelled,
    SequenceAligner,
    TransferRule,
    decide,
    inputs,
    same_prefix,
)
from fusion.align.pair import Reading, Spelling, VocabularyPair
from fusion.align.project import IdMap, project
from fusion.align.statistics import CoOccurrence, co_occurrence
from fusion.conversations.vocabulary import Vocabulary
from fusion.distribution import NO_TOKEN, TopK

if TYPE_CHECKING:
    from jaxtyping import Int8, Int32

MapBuilder = Callable[[VocabularyPair, Callable[[], CoOccurrence]], IdMap]
RuleBuilder = Callable[[VocabularyPair, Callable[[], IdMap]], TransferRule]


class AlignerBuilder(Protocol):
    """A sequence aligner's class, which makes one for the strings of a pair of vocabularies."""

    @property
    def knows_the_text(self) -> bool:
        """Whether a match means that both tokens end at one place of the text, which no rule need guess then."""

    def __call__(self, pair: VocabularyPair) -> SequenceAligner: ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """A sequence aligner, a vocabulary map and a transfer rule, under one reading.

    `sum_collisions`: entries on one pivot id are summed, else the likelier is kept.
    `only_same_prefix`: no transfer from a position with another text in front of it; the gold token stands there.
    `least_kept`: the share of what a source's entries hold at a position that must find a pivot id, else the position
    says nothing (fusion.align.project).
    `gold_is_input`: where the gold token stands, it is the one in front of the label (FuseLLM's code teaches every
    such position to repeat itself).
    """

    aligner: AlignerBuilder
    vocabulary_map: MapBuilder
    rule: RuleBuilder
    reading: Reading
    spelling: Spelling
    sum_collisions: bool
    only_same_prefix: bool
    least_kept: float
    gold_is_input: bool

    def described(self) -> dict[str, str | bool | float]:
        """All of it as plain values: two methods with equal descriptions and equal code give equal results."""
        parts = {"aligner": self.aligner, "vocabulary_map": self.vocabulary_map, "rule": self.rule}
        names: dict[str, str | bool | float] = {
            role: getattr(part, "__qualname__", repr(part)) for role, part in parts.items()
        }
        rest = ("reading", "spelling", "sum_collisions", "only_same_prefix", "least_kept", "gold_is_input")
        return {**names, **{field: getattr(self, field) for field in rest}}


class PreparedMethod:
    """A method for one pair of vocabularies.  Strings, map and statistics are made when first needed.

    `rows` gives the (pivot row, source row) of the whole corpus, for maps that need its statistics.  A map or an
    aligner made before can be given.  `pivot_ids`: how many ids the pivot's model has, which may be fewer than its
    tokenizer, or a source of the same tokenizer; no other is ever given to it.
    """

    def __init__(
        self,
        method: Method,
        pivot: Vocabulary,
        source: Vocabulary,
        rows: Callable[[], Iterable[tuple[Labelled, Labelled]]],
        id_map: IdMap | None = None,
        aligner: SequenceAligner | None = None,
        pivot_ids: int | None = None,
    ) -> None:
        self.method = method
        self._pivot_ids = len(pivot) if pivot_ids is None else pivot_ids
        self._pair = VocabularyPair(pivot=pivot, source=source, reading=method.reading, spelling=method.spelling)
        self._rows = rows
        self._given_map, self._given_aligner = id_map, aligner
        self._leads = [_spaces_in_front(vocabulary) for vocabulary in (pivot, source)]

    @cached_property
    def aligner(self) -> SequenceAligner:
        """Matches positions."""
        return self._given_aligner or self.method.aligner(self._pair)

    @cached_property
    def id_map(self) -> IdMap:
        """Source id to pivot id."""
        return self._given_map or self.method.vocabulary_map(self._pair, self._statistics)

    @cached_property
    def rule(self) -> TransferRule:
        """Decides on matches."""
        return self.method.rule(self._pair, lambda: self.id_map)

    @cached_property
    def id_table(self) -> NDArray[np.int32]:
        """`id_map` as the rows that `border` chooses from, without ids that the pivot's model has not. [3, V_source]"""
        table = self.id_map.table()
        return np.where(table < self._pivot_ids, table, NO_TOKEN)

    @property
    def map_made(self) -> bool:
        """Whether anything needed the vocabulary map so far."""
        return "id_map" in vars(self)

    def _statistics(self) -> CoOccurrence:
        return co_occurrence((self.aligner(pivot, source), pivot, source) for pivot, source in self._rows())

    def decide(self, pivot: Labelled, source: Labelled) -> Decision:
        """What each pivot position of one conversation gets, by the transfer rule alone."""
        decision = self.rule(self.aligner(pivot, source), pivot, source)
        if not self.method.only_same_prefix:
            return decision
        wrong = (decision.source_position >= 0) & ~same_prefix(decision, pivot, source)
        checked = decide(decision.source_position, (decision.source_position >= 0) & ~wrong)
        return Decision(
            kind=np.where(wrong, ONE_HOT, decision.kind).astype(np.uint8), source_position=checked.source_position
        )

    def transfer(self, pivot: Labelled, source: Labelled, top: TopK) -> tuple[TopK, Decision]:
        """The distributions of one conversation at the pivot's positions; `top` are the source's."""
        gold = np.asarray(pivot.label_ids)
        if self.method.gold_is_input:
            in_front = inputs(pivot)
            gold = np.where(in_front == START, gold, in_front)
        decision = self.decide(pivot, source)
        border = self.border(pivot, source, decision)
        return self._project(top, decision, gold=gold.astype(np.int32), id_table=self.id_table, border=border)

    def copy(self, top: TopK) -> tuple[TopK, Decision]:
        """The distributions of a source whose tokens are the pivot's, position by position and id by id."""
        positions = np.arange(len(top), dtype=np.int32)
        return self._project(
            top,
            decide(positions, np.ones(len(top), np.bool_)),
            gold=np.full(len(top), NO_TOKEN, np.int32),
            id_table=np.tile(np.arange(self._pivot_ids, dtype=np.int32), (3, 1)),
            border=np.zeros(len(top), np.int8),
        )

    def _project(
        self,
        top: TopK,
        decision: Decision,
        *,
        gold: Int32[NDArray[np.int32], " N"],
        id_table: Int32[NDArray[np.int32], "3 V"],
        border: Int8[NDArray[np.int8], " N"],
    ) -> tuple[TopK, Decision]:
        return project(
            top,
            decision,
            gold=gold,
            id_table=id_table,
            border=border,
            sum_collisions=self.method.sum_collisions,
            least_kept=self.method.least_kept,
        )

    def border(self, pivot: Labelled, source: Labelled, decision: Decision) -> Int8[NDArray[np.int8], " N"]:
        """1 where the pivot's label has the template's last space in it and the source's has not, 2 the other way."""
        ours = _begins_outside(pivot, self._leads[0])
        theirs = np.append(_begins_outside(source, self._leads[1]), False)[decision.source_position]
        return np.where(ours & ~theirs, 1, np.where(theirs & ~ours, 2, 0)).astype(np.int8)


def _spaces_in_front(vocabulary: Vocabulary) -> NDArray[np.int32]:
    """For each id its length in bytes if it begins with a space, else 0."""
    lengths = [len(b) if b is not None and b.startswith(b" ") else 0 for b in vocabulary.spelled]
    return np.array(lengths, np.int32)


def _begins_outside(row: Labelled, spaced_length: NDArray[np.int32]) -> NDArray[np.bool_]:
    inside = np.asarray(row.end) - np.asarray(row.start)
    spaced = spaced_length[np.asarray(row.label_ids)] == inside + 1
    return np.asarray((np.asarray(row.start) == 0) & spaced)
