"""Which source positions a pivot position is matched with, and what a transfer rule decides from that.

A position is a labelled token and the distribution that predicts it.  What a distribution knows is the text in front of
it, so the papers match the tokens *before* the labels: `inputs` gives them.  The token in front of a turn's first label
belongs to the chat template, whatever that is; it is START, and START only ever equals START.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Bool, Int32, Int64, UInt8

START = -1
EMPTY, TRANSFERRED, ONE_HOT = 0, 1, 2
"""What stands at a pivot position: nothing (fusion leaves it to the pivot), the source's entry, the gold token."""


class Labelled(Protocol):
    """The labelled tokens of one conversation under one tokenizer; [N] each (a RowRepresentation is one)."""

    @property
    def label_ids(self) -> NDArray[np.int32]: ...
    @property
    def turn(self) -> NDArray[np.int16]: ...
    @property
    def start(self) -> NDArray[np.int32]: ...
    @property
    def end(self) -> NDArray[np.int32]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Pivot position `i` is matched with source positions `positions[offset[i]:offset[i + 1]]`, ascending.

    N pivot positions, N + 1 offsets, M matches.
    """

    offset: Int64[NDArray[np.int64], " offsets"]
    positions: Int32[NDArray[np.int32], " M"]

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def counts(self) -> Int64[NDArray[np.int64], " N"]:
        """How many source positions each pivot position has."""
        return np.diff(self.offset)

    def only(self) -> Int32[NDArray[np.int32], " N"]:
        """The matched source position where there is exactly one, else -1."""
        single = self.counts == 1
        found = np.full(len(self), -1, np.int32)
        found[single] = self.positions[self.offset[:-1][single]]
        return found

    def last(self) -> Int32[NDArray[np.int32], " N"]:
        """The last matched source position, -1 where there is none."""
        some = self.counts > 0
        found = np.full(len(self), -1, np.int32)
        found[some] = self.positions[self.offset[1:][some] - 1]
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """For every pivot position [N] what it gets; `source_position` is -1 unless that is TRANSFERRED."""

    kind: UInt8[NDArray[np.uint8], " N"]
    source_position: Int32[NDArray[np.int32], " N"]


class SequenceAligner(Protocol):
    """Matches the positions of one conversation under two tokenizers."""

    def __call__(self, pivot: Labelled, source: Labelled) -> Matches: ...


class TransferRule(Protocol):
    """Decides, from a row's matches, where the source's distribution is taken and from which position."""

    def __call__(self, matches: Matches, pivot: Labelled, source: Labelled) -> Decision: ...


def inputs(row: Labelled) -> Int32[NDArray[np.int32], " N"]:
    """The token in front of every labelled one, START for the first of a turn. [N]"""
    tokens = np.empty(len(row.label_ids), np.int32)
    tokens[1:] = row.label_ids[:-1]
    if len(tokens):
        tokens[0] = START
        tokens[1:][row.turn[1:] != row.turn[:-1]] = START
    return tokens


def decide(position: Int32[NDArray[np.int32], " N"], passes: Bool[NDArray[np.bool_], " N"]) -> Decision:
    """Transfer where `passes`, the gold token elsewhere."""
    kind = np.where(passes, TRANSFERRED, ONE_HOT).astype(np.uint8)
    return Decision(kind=kind, source_position=np.where(passes, position, -1).astype(np.int32))


def text_key(row: Labelled) -> Int64[NDArray[np.int64], " N"]:
    """Where in the conversation's assistant text each label begins, as one ascending number. [N]"""
    return row.turn.astype(np.int64) << 32 | row.start.astype(np.int64)


def same_prefix(decision: Decision, pivot: Labelled, source: Labelled) -> Bool[NDArray[np.bool_], " N"]:
    """Whether the text in front of pivot position and chosen source position is the same; False if none is chosen."""
    chosen = decision.source_position >= 0
    equal = np.zeros(len(chosen), np.bool_)
    equal[chosen] = text_key(pivot)[chosen] == text_key(source)[decision.source_position[chosen]]
    return equal
