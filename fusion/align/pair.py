"""Two vocabularies in one comparable spelling.

Three spellings are in use, and which one is compared decides what aligns:
  canonical  the text a token stands for (stray bytes kept apart), spaces as spaces: what the papers mean;
  decoded    what decoding the token alone prints (FuseChat's code): a SentencePiece conversion drops the space in front
             of a word there, and stray bytes all print as the same character;
  pieces     the vocabulary entry, the source's space marker replaced by the pivot's (FuseLLM's code): a byte-level
             piece beyond ASCII never equals the same character written out.

An unknown token stands for whatever its vocabulary cannot spell, and not for its name: canonically it is one character
that no text has, the same for both vocabularies only where they can spell the same.  The code compares it by its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusion.conversations.vocabulary import BYTE_PIECE, Vocabulary
from fusion.distribution import NO_TOKEN

Spelling = Literal["canonical", "decoded", "pieces"]
Reading = Literal["paper", "released", "fixed"]
_UNKNOWN = ("\ud800", "\ud801")  # the pivot's and the source's; stray bytes are written as other lone surrogates


@dataclass(frozen=True, kw_only=True, eq=False)
class VocabularyPair:
    """A pivot's and a source's vocabulary, as one reading of a scheme compares them."""

    pivot: Vocabulary
    source: Vocabulary
    reading: Reading = "paper"
    spelling: Spelling = "canonical"

    @cached_property
    def pivot_strings(self) -> list[str]:
        """The spelling of every pivot id; empty where an id has none."""
        return spell(self.pivot, self.spelling, marker=self.pivot.marker, unknown=_UNKNOWN[0])

    @cached_property
    def source_strings(self) -> list[str]:
        """The spelling of every source id; empty where an id has none."""
        alike = set(self.pivot.spelled) == set(self.source.spelled)
        return spell(self.source, self.spelling, marker=self.pivot.marker, unknown=_UNKNOWN[not alike])

    @property
    def space(self) -> str:
        """What a space in front of a word looks like in this spelling, for comparisons that leave it out."""
        return " " if self.spelling == "canonical" else self.pivot.marker

    @cached_property
    def string_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For every pivot id and every source id a number that is equal iff the spellings are.

        The last entry of both, which index START (-1) reaches, is a number of its own: START equals START alone.
        """
        numbers: dict[str, int] = {}
        both = []
        for strings in (self.pivot_strings, self.source_strings):
            both.append(np.array([*(numbers.setdefault(s, len(numbers)) for s in strings), -2], np.int64))
        return both[0], both[1]

    def equal_strings(self) -> NDArray[np.int32]:
        """For every source id the pivot id of the same spelling, NO_TOKEN where there is none. [V_source]

        Of several pivot ids with one spelling (a vocabulary may hold a character both as a piece and as a byte of its
        byte fallback): the one written the same as the source's, else the first that is no byte piece.
        """
        # A special token's name is not the text that spells it; vocabulary entries alone do not tell the two apart.
        apart = self.spelling != "pieces"
        named: dict[tuple[str, bool, str], int] = {}
        first: dict[tuple[str, bool], int] = {}
        for token_id in self._byte_pieces_last():
            piece = self.pivot.pieces[token_id]
            if piece is not None:
                string = (self.pivot_strings[token_id], apart and self.pivot.spelled[token_id] is None)
                named.setdefault((*string, piece), token_id)
                first.setdefault(string, token_id)
        found = np.full(len(self.source), NO_TOKEN, np.int32)
        for token_id, piece in enumerate(self.source.pieces):
            if piece is not None:
                string = (self.source_strings[token_id], apart and self.source.spelled[token_id] is None)
                same = piece.replace(self.source.marker, self.pivot.marker)
                found[token_id] = named.get((*string, same), first.get(string, NO_TOKEN))
        return found

    def pivot_by_bytes(self) -> dict[bytes, int]:
        """The pivot id of every text that one of its tokens spells; of several the first that is no byte piece."""
        known: dict[bytes, int] = {}
        for token_id in self._byte_pieces_last():
            text = self.pivot.spelled[token_id]
            if text is not None:
                known.setdefault(text, token_id)
        return known

    def _byte_pieces_last(self) -> list[int]:
        """The pivot's ids, ascending, those of byte pieces behind the others."""
        is_byte = [BYTE_PIECE.match(piece or "") is not None for piece in self.pivot.pieces]
        return sorted(range(len(self.pivot)), key=is_byte.__getitem__)

    def respelled(self, spelling: Spelling) -> VocabularyPair:
        """The same pair in another spelling."""
        return self if spelling == self.spelling else replace(self, spelling=spelling)


def by_role(ids: NDArray[np.int32], pair: VocabularyPair) -> NDArray[np.int32]:
    """`ids` with the special tokens mapped by what they are for: begin of text, padding, and above all end of turn.

    The releases map them by their strings, so that Mixtral's end of turn teaches the pivot a token it never ends with.
    """
    ids = ids.copy()
    roles = [(pair.source.bos, pair.pivot.bos)]
    # Many pad with their unknown token, and what a model gives that is for unknown text.
    padded = all(one.pad != one.unknown for one in (pair.source, pair.pivot))
    if padded and pair.pivot.pad != pair.pivot.end_of_turn:
        roles.append((pair.source.pad, pair.pivot.pad))
    roles.append((pair.source.end_of_turn, pair.pivot.end_of_turn))
    for theirs, ours in roles:
        if theirs is not None and ours is not None:
            ids[theirs] = ours
    return ids


def spell(vocabulary: Vocabulary, spelling: Spelling, *, marker: str, unknown: str) -> list[str]:
    """Every id of `vocabulary` in `spelling`; special tokens, which stand for no text, by the name they have.

    `unknown` is what the unknown token is in the canonical spelling.
    """
    if spelling == "pieces":
        return [(piece or "").replace(vocabulary.marker, marker) for piece in vocabulary.pieces]
    stray = "surrogateescape" if spelling == "canonical" else "replace"
    strings: list[str] = []
    for piece, spelled in zip(vocabulary.pieces, vocabulary.spelled, strict=True):
        if spelled is None:
            strings.append(piece or "")
            continue
        text = spelled.decode("utf-8", stray)
        if spelling == "decoded" and vocabulary.decode_drops_space and text.startswith(" "):
            text = text[1:]
        strings.append(text)
    if spelling == "canonical" and vocabulary.unknown is not None:
        strings[vocabulary.unknown] = unknown
    return strings
