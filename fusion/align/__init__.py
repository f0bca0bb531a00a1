"""Alignment: a source model's distributions carried to the pivot's token positions and the pivot's ids.

Two separate choices make a scheme: which positions are matched (a sequence aligner) and which pivot id a source id
stands for (a vocabulary map).  A scheme is a named pair of them, with the rule that decides which matches to trust:

    align=byte_span                                                     the pair byte_span + string
    align=ms align.reading=released                                     as FuseChat's code does it
    align=em align.aligner=byte_span align.vocabulary_map=mapping_statistics     any other cross

To add an aligner or a map: a file in aligners/ or maps/, a line in the table at its door, a file in conf/align.  To add
a scheme of parts that are there: a line below, a file in conf/align.  In reading order:

    pair.py                                two vocabularies in one comparable spelling
    matches.py, aligners/                  which positions belong together, and when a match is trusted
    statistics.py                          how often tokens were matched over a corpus
    maps/                                  which pivot id a source id stands for
    method.py, project.py                  the choices put together, and applied to one conversation
    carry.py, aligned.py                   every conversation carried over, and its rows on disk
    stage.py                               as a stage of the pipeline
    audit.py                               what each scheme would transfer, before anything is trained
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.align.aligned import AlignedRow, open_aligned
from fusion.align.aligners import SEQUENCE_ALIGNERS
from fusion.align.aligners.byte_span import every_match
from fusion.align.carry import carry
from fusion.align.maps import VOCABULARY_MAPS
from fusion.align.maps.exact_match import EqualToken
from fusion.align.maps.mapping_statistics import SuffixToken
from fusion.align.maps.min_edit_distance import MappedToken
from fusion.align.matches import EMPTY, ONE_HOT, TRANSFERRED
from fusion.align.method import Method, RuleBuilder
from fusion.align.pair import Reading, Spelling
from fusion.runtime.configure import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from fusion.represent import Representation

__all__ = [
    "ALIGNMENT_SCHEMES",
    "EMPTY",
    "ONE_HOT",
    "SEQUENCE_ALIGNERS",
    "TRANSFERRED",
    "VOCABULARY_MAPS",
    "AlignConfig",
    "AlignedRow",
    "AlignmentScheme",
    "align",
    "method",
    "open_aligned",
]


_LEAST_KEPT = 0.5


@dataclass(frozen=True, kw_only=True)
class AlignmentScheme:
    """A named pair, the rule that goes with it, and what its published code compares (fusion.align.pair)."""

    aligner: str
    vocabulary_map: str
    rule: RuleBuilder
    released_spelling: Spelling
    released_gold_is_input: bool = False
    released_least_kept: float = 0.0
    always_sum_collisions: bool = False


ALIGNMENT_SCHEMES: dict[str, AlignmentScheme] = {
    "em": AlignmentScheme(
        aligner="token_dtw", vocabulary_map="exact_match", rule=EqualToken, released_spelling="decoded"
    ),
    "mined": AlignmentScheme(
        aligner="token_dtw",
        vocabulary_map="min_edit_distance",
        rule=MappedToken,
        released_spelling="pieces",
        released_gold_is_input=True,
    ),
    "ms": AlignmentScheme(
        aligner="token_dtw", vocabulary_map="mapping_statistics", rule=SuffixToken, released_spelling="decoded"
    ),
    "byte_span": AlignmentScheme(
        aligner="byte_span",
        vocabulary_map="string",
        rule=every_match,
        released_spelling="canonical",
        released_least_kept=_LEAST_KEPT,
        always_sum_collisions=True,
    ),
    "equal_span": AlignmentScheme(
        aligner="equal_span",
        vocabulary_map="string",
        rule=every_match,
        released_spelling="canonical",
        released_least_kept=_LEAST_KEPT,
        always_sum_collisions=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """A scheme, how it is read, and what replaces its aligner or its map.

    `reading`: `paper` what the papers mean, `released` what their code does (EM and MS: FuseChat's second release;
    MinED: FuseLLM's, since FuseChat's cannot run), `fixed` as `paper`, with colliding masses summed and no transfer
    from a position that has another text in front of it.  byte_span and equal_span are our own: their readings are one.
    `least_kept`: how much of what a source's entries hold at a position must find a pivot id; below it the pivot's own
    distribution is taught there.  None: 0.5, so that no entry is taught at more than twice its share of what the source
    kept; in the papers' code 0, which makes a source that is sure of a token the pivot lacks sure of another.
    """

    scheme: str
    reading: Reading = "paper"
    aligner: str | None = None
    vocabulary_map: str | None = None
    least_kept: float | None = None

    def __post_init__(self) -> None:
        tables: tuple[tuple[str, str | None, Mapping[str, object]], ...] = (
            ("scheme", self.scheme, ALIGNMENT_SCHEMES),
            ("aligner", self.aligner, SEQUENCE_ALIGNERS),
            ("vocabulary_map", self.vocabulary_map, VOCABULARY_MAPS),
        )
        for field, name, table in tables:
            if name is not None and name not in table:
                raise ValueError(f"{field} is '{name}': {nearest(name, table)}")
        if self.least_kept is not None and not 0 <= self.least_kept <= 1:
            raise ValueError(f"least_kept is {self.least_kept}: expected a share from 0 to 1, or null")

    @property
    def pair(self) -> tuple[str, str]:
        """The names of the sequence aligner and the vocabulary map in force."""
        scheme = ALIGNMENT_SCHEMES[self.scheme]
        return self.aligner or scheme.aligner, self.vocabulary_map or scheme.vocabulary_map


def method(config: AlignConfig) -> Method:
    """The choices that `config` names.

    The papers' transfer rules guess from the strings of two tokens whether they end at one place of the text.  With an
    aligner that knows the text every match is transferred.
    """
    scheme = ALIGNMENT_SCHEMES[config.scheme]
    aligner, vocabulary_map = config.pair
    released = config.reading == "released"
    chosen = SEQUENCE_ALIGNERS[aligner]
    by_default = scheme.released_least_kept if released else _LEAST_KEPT
    return Method(
        aligner=chosen,
        vocabulary_map=VOCABULARY_MAPS[vocabulary_map],
        rule=every_match if chosen.knows_the_text else scheme.rule,
        reading=config.reading,
        spelling=scheme.released_spelling if released else "canonical",
        sum_collisions=scheme.always_sum_collisions or config.reading == "fixed",
        only_same_prefix=config.reading == "fixed",
        least_kept=config.least_kept if config.least_kept is not None else by_default,
        gold_is_input=released and scheme.released_gold_is_input,
    )


def align(
    *,
    pivot: Representation,
    source: Representation,
    pivot_tokenizer: PreTrainedTokenizerFast,
    source_tokenizer: PreTrainedTokenizerFast,
    config: AlignConfig,
    out: Path,
    advance: Callable[[int, int], None] | None = None,
) -> dict[str, int | float]:
    """Align a source's representation with the pivot's and write the aligned rows into `out`; returns counts.

    Raises Refusal when the two are of different conversations, or a tokenizer has no chat template to tell its
    end-of-turn token.  `advance(done, total)` is called after each shard.
    """
    from fusion.conversations.template import end_of_turn_id

    return carry(
        pivot=pivot.rows,
        source=source.rows,
        pivot_tokenizer=pivot_tokenizer,
        source_tokenizer=source_tokenizer,
        pivot_ids=pivot.vocabulary,
        pivot_end_of_turn=end_of_turn_id(pivot_tokenizer),
        source_end_of_turn=end_of_turn_id(source_tokenizer),
        method=method(config),
        out=out,
        advance=advance,
    )
