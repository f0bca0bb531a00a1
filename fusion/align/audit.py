"""The alignment audit: what each scheme would transfer between two tokenizers on a text, before anything is trained.

No model is run.  Of the transfer rule it counts how many of the text's pivot tokens the source would teach, how many
would get the gold token or nothing, and how many would be taught from a position that has another text in front of it.
Of the vocabulary map it counts the source's tokens that have a pivot token, in its vocabulary and in the text.  In the
text the token that the source has next stands for its whole distribution, which only a model has: the share of
transferred positions where it is carried over is the mass that is kept of a source which gives each token of the text
the probability that it comes with.  A map that guesses (`mined`, `ms`) keeps mass on tokens of other text, so tokens
that stand for the same text are counted by themselves.
"""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from fusion.align import ALIGNMENT_SCHEMES, AlignConfig, method
from fusion.align.matches import EMPTY, ONE_HOT, TRANSFERRED, Labelled, Matches, SequenceAligner, same_prefix
from fusion.align.method import Method, PreparedMethod
from fusion.align.pair import Reading
from fusion.align.project import IdMap
from fusion.conversations.conversation import read_conversations
from fusion.conversations.vocabulary import Vocabulary, token_bytes, vocabulary
from fusion.distribution import NO_TOKEN
from fusion.runtime.configure import Refusal
from fusion.runtime.reading import decoded
from fusion.runtime.shortfall import LITTLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NO_LABEL = -2  # stands for the end-of-turn token, whichever it is; never counted
KINDS = ("prose", "other_script", "code", "digits", "cjk", "emoji")
"""Kinds of text, by rising right to a token whose characters are of several."""

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CJK = ((0x2E80, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF), (0x20000, 0x3134F))
_EMOJI = ((0x2600, 0x27BF), (0x2B00, 0x2BFF), (0xFE0F, 0xFE0F), (0x1F000, 0x1FAFF))


@dataclass(frozen=True, kw_only=True, eq=False)
class TextRow:
    """The tokens of a conversation's assistant texts under one tokenizer, no template; see LabelledRow for the fields.

    Every turn ends with a position that stands for the end-of-turn token.
    """

    label_ids: NDArray[np.int32]
    turn: NDArray[np.int16]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    left_out: int = 0
    """Bytes of text that its tokenizer writes as special or unknown tokens, which stand for no text."""


def every_config() -> list[AlignConfig]:
    """Each scheme under each reading."""
    return [
        AlignConfig(scheme=scheme, reading=reading) for scheme in ALIGNMENT_SCHEMES for reading in get_args(Reading)
    ]


class AuditRow(TypedDict):
    """Of one config, what its positions in one kind of text came to, and what of the source's vocabulary it maps."""

    scheme: str
    reading: str
    aligner: str
    vocabulary_map: str
    kind: str
    positions: int
    transferred: int
    one_hot: int
    empty: int
    wrong_position: int
    kept: int
    """Transferred positions where the token that the source has next becomes a pivot token."""
    kept_text: int
    """Of these, where it becomes one that stands for the same text."""
    vocabulary: int
    """Tokens of the source that stand for text; these three are the same in all rows of a config."""
    vocabulary_kept: int
    vocabulary_kept_text: int
    bytes: int
    """Of the whole text; as the next two the same in all rows."""
    pivot_left_out: int
    """Bytes that are in no position, since the pivot writes them as special or unknown tokens."""
    source_left_out: int
    """Bytes that the source writes so, and can teach nothing of."""


def audit(
    *,
    pivot_tokenizer: PreTrainedTokenizerFast,
    source_tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[Sequence[str]],
    configs: Sequence[AlignConfig],
    advance: Callable[[int, int], None] | None = None,
) -> list[AuditRow]:
    """The rows of audit.json: for each config one row for the whole text and one for each kind of text in it.

    `texts` are the assistant's turns of each conversation.  The text is compared in Unicode's composed form, which some
    tokenizers turn it into.
    """
    composed = [[unicodedata.normalize("NFC", turn) for turn in turns] for turns in texts]
    pivot_rows = [text_row(pivot_tokenizer, turns) for turns in composed]
    source_rows = [text_row(source_tokenizer, turns) for turns in composed]
    kinds = [_kinds_of(turns, row) for turns, row in zip(composed, pivot_rows, strict=True)]
    size = sum(len(turn.encode()) for turns in composed for turn in turns)
    pivot, source = vocabulary(pivot_tokenizer), vocabulary(source_tokenizer)
    numbers = _text_numbers(pivot, source)
    aligners: dict[tuple[object, ...], SequenceAligner] = {}
    maps: dict[tuple[object, ...], IdMap] = {}
    rows: list[AuditRow] = []
    for number, config in enumerate(configs):
        chosen = method(config)
        key = (config.pair[0], chosen.spelling, chosen.reading == "released")
        if key not in aligners:
            aligners[key] = _remembering(chosen, pivot, source, partial(zip, pivot_rows, source_rows))
        map_key = (*key, config.pair[1])
        ready = PreparedMethod(
            chosen,
            pivot,
            source,
            partial(zip, pivot_rows, source_rows),
            id_map=maps.get(map_key),
            aligner=aligners[key],
        )
        rows += _counted(config, ready, _carried(ready.id_table, *numbers), pivot_rows, source_rows, kinds, size)
        if ready.map_made:
            maps[map_key] = ready.id_map
        if advance is not None:
            advance(number + 1, len(configs))
    return rows


def text_row(tokenizer: PreTrainedTokenizerFast, turns: Sequence[str]) -> TextRow:
    """Tokenise each turn alone.  Special tokens that the text spells out stand for no text and are left out."""
    ids: list[NDArray[np.int32]] = []
    starts: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []
    turn_of: list[NDArray[np.int16]] = []
    left_out = 0
    spelled = token_bytes(tokenizer)
    encoded = tokenizer(
        list(turns), add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True, verbose=False
    )
    for number, text in enumerate(turns):
        raw = text.encode()
        token_ids = np.array(encoded["input_ids"][number], np.int32)
        start, end = _spans(raw, text, [spelled[i] for i in token_ids], encoded["offset_mapping"][number])
        known = np.array([spelled[i] is not None for i in token_ids], np.bool_)
        left_out += int((end - start)[~known].sum())
        ids.append(np.append(token_ids[known], NO_LABEL).astype(np.int32))
        starts.append(np.append(start[known], len(raw)))
        ends.append(np.append(end[known], len(raw)))
        turn_of.append(np.full(int(known.sum()) + 1, number, np.int16))
    return TextRow(
        label_ids=np.concatenate(ids),
        turn=np.concatenate(turn_of),
        start=np.concatenate(starts).astype(np.int32),
        end=np.concatenate(ends).astype(np.int32),
        left_out=left_out,
    )


def little_kept(rows: Sequence[AuditRow]) -> list[str]:
    """A sentence for each tokenizer that has no tokens for a hundredth of the text, and for each config by which less
    than half of what the source would teach of some kind of text arrives as the same text, or nothing is transferred.

    Kinds that are less than a hundredth of the positions are passed over.
    """
    first = rows[0]
    said = [
        f"the {role} has no tokens for {lost / first['bytes']:.1%} of the text, which it writes as unknown or special"
        f" ones: {what}"
        for role, lost, what in (
            ("pivot", first["pivot_left_out"], "this is in no figure here"),
            ("source", first["source_left_out"], "it can teach nothing of this"),
        )
        if 100 * lost > first["bytes"]
    ]
    for whole in (row for row in rows if row["kind"] == "all"):
        config = _config_of(whole)
        own = [row for row in rows if _config_of(row) == config and 100 * row["positions"] >= whole["positions"]]
        few = [row for row in own if row["transferred"] and row["kept_text"] < LITTLE * row["transferred"]]
        none = [row for row in own if row["positions"] and not row["transferred"]]
        parts = []
        if few:
            shares = ", ".join(f"{row['kept_text'] / row['transferred']:.0%} of {row['kind']}" for row in few)
            parts.append(f"of the tokens that the source would teach only {shares} arrive as the same text")
        if none:
            parts.append(f"nothing is transferred of {', '.join(row['kind'] for row in none)}")
        if parts:
            said.append(f"little is kept by {', '.join(config)}: {'; '.join(parts)}")
    return said


def read_texts(path: Path) -> list[list[str]]:
    """The assistant's turns of every conversation in `path`: JSONL conversations, or JSON rows with an `output` text.

    Raises Refusal when the file is missing, is neither of these, or holds no text.
    """
    first = _first_row(path)
    if isinstance(first, dict) and "output" in first:
        texts = [[output] for output in _outputs(path)]
    else:
        texts = [[m.content for m in c.messages if m.role == "assistant"] for c in read_conversations(path)]
    if not any(turn for turns in texts for turn in turns):
        raise Refusal(f"text={path} holds no assistant text")
    return texts


def _remembering(
    chosen: Method,
    pivot: Vocabulary,
    source: Vocabulary,
    rows: Callable[[], Iterator[tuple[Labelled, Labelled]]],
) -> SequenceAligner:
    """The method's aligner, with every row aligned at once: several schemes ask for the same."""
    plain = PreparedMethod(chosen, pivot, source, rows).aligner
    known: dict[int, Matches] = {id(ours): plain(ours, theirs) for ours, theirs in rows()}
    return lambda ours, theirs: known[id(ours)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Carried:
    """What a map makes of V source tokens, in the three rows of fusion.align.project.IdMap."""

    text: NDArray[np.bool_]  # [V] whether a token stands for text
    kept: NDArray[np.bool_]  # [3, V] whether it becomes a pivot token
    kept_text: NDArray[np.bool_]  # [3, V] whether that one stands for the same text


def _text_numbers(pivot: Vocabulary, source: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers that are equal iff the text is: of the pivot's tokens [V_pivot], and of the source's in the three rows of
    an IdMap [3, V_source], -1 where no pivot token has the text and -2 where there is none."""
    numbers: dict[bytes | None, int] = {None: -2}
    ours = np.array([numbers.setdefault(b, len(numbers)) for b in pivot.spelled], np.int64)
    plain = source.spelled
    added = [b if b is None else b" " + b for b in plain]
    removed = [b if b is None else b.removeprefix(b" ") for b in plain]
    return ours, np.array([[numbers.get(b, -1) for b in row] for row in (plain, added, removed)], np.int64)


def _carried(id_table: NDArray[np.int32], ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> _Carried:
    kept, text = id_table != NO_TOKEN, theirs[0] != -2
    return _Carried(text=text, kept=kept, kept_text=kept & text & (ours[id_table] == theirs))


def _config_of(row: AuditRow) -> tuple[str, str, str, str]:
    return row["scheme"], row["reading"], row["aligner"], row["vocabulary_map"]


def _counted(
    config: AlignConfig,
    ready: PreparedMethod,
    carried: _Carried,
    pivot_rows: Sequence[TextRow],
    source_rows: Sequence[TextRow],
    kinds: Sequence[NDArray[np.int8]],
    size: int,
) -> list[AuditRow]:
    outcome = np.zeros((len(KINDS), 3), np.int64)  # by kind of text, by kind of position
    wrong, kept, kept_text = (np.zeros(len(KINDS), np.int64) for _ in range(3))
    for ours, theirs, kind_of in zip(pivot_rows, source_rows, kinds, strict=True):
        decision = ready.decide(ours, theirs)
        text = ours.label_ids != NO_LABEL
        np.add.at(outcome, (kind_of[text], decision.kind[text]), 1)
        astray = text & (decision.kind == TRANSFERRED) & ~same_prefix(decision, ours, theirs)
        np.add.at(wrong, kind_of[astray], 1)
        said = np.append(theirs.label_ids, NO_LABEL)[decision.source_position]
        border = ready.border(ours, theirs, decision)
        taught = text & (decision.kind == TRANSFERRED) & (said != NO_LABEL)
        np.add.at(kept, kind_of[taught & carried.kept[border, said]], 1)
        np.add.at(kept_text, kind_of[taught & carried.kept_text[border, said]], 1)
    aligner, vocabulary_map = config.pair
    counts = np.column_stack([outcome, wrong, kept, kept_text])
    groups = [("all", counts.sum(0))]
    groups += [(kind, counts[i]) for i, kind in enumerate(KINDS) if outcome[i].sum()]
    return [
        {
            "scheme": config.scheme,
            "reading": config.reading,
            "aligner": aligner,
            "vocabulary_map": vocabulary_map,
            "kind": kind,
            "positions": int(found[:3].sum()),
            "transferred": int(found[TRANSFERRED]),
            "one_hot": int(found[ONE_HOT]),
            "empty": int(found[EMPTY]),
            "wrong_position": int(found[3]),
            "kept": int(found[4]),
            "kept_text": int(found[5]),
            "vocabulary": int(carried.text.sum()),
            "vocabulary_kept": int((carried.kept[0] & carried.text).sum()),
            "vocabulary_kept_text": int((carried.kept_text[0] & carried.text).sum()),
            "bytes": size,
            "pivot_left_out": sum(row.left_out for row in pivot_rows),
            "source_left_out": sum(row.left_out for row in source_rows),
        }
        for kind, found in groups
    ]


# ---------------------------------------------------------------------------------------------------- text
def _spans(
    raw: bytes, text: str, pieces: Sequence[bytes | None], offsets: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and past-the-last byte of every token: by the bytes of the pieces, which part characters that tokens share;
    by the tokenizer's offsets where the pieces do not spell the text."""
    sizes = np.array([len(piece or b"") for piece in pieces], np.int64)
    joined = b"".join(piece or b"" for piece in pieces)
    dummy = len(joined) - len(raw)
    if dummy in (0, 1) and joined[dummy:] == raw and joined[:dummy].isspace() == bool(dummy):
        stop = np.cumsum(sizes)
        return np.maximum(stop - sizes - dummy, 0), np.maximum(stop - dummy, 0)
    width = np.array([len(character.encode()) for character in text], np.int64)
    byte_at = np.concatenate([np.zeros(1, np.int64), np.cumsum(width)])
    spans = byte_at[np.array(offsets, np.int64).reshape(-1, 2)]
    return spans[:, 0], spans[:, 1]


def _kinds_of(turns: Sequence[str], row: TextRow) -> NDArray[np.int8]:
    """The kind of text of every token, an index into KINDS. [L]"""
    found = np.zeros(len(row.label_ids), np.int8)
    for number, text in enumerate(turns):
        here = np.flatnonzero((row.turn == number) & (row.label_ids != NO_LABEL))
        if not len(here):
            continue
        by_byte = _kind_of_bytes(text)
        start = np.minimum(row.start[here], len(by_byte) - 1)
        end = np.maximum(row.end[here], start + 1)
        # reduceat takes [a, b), [b, c), ...: every other one is a token's own range; the last byte is doubled as a stop
        bounds = np.stack([start, np.minimum(end, len(by_byte))], axis=1).reshape(-1)
        found[here] = np.maximum.reduceat(np.append(by_byte, 0), bounds)[::2]
    return found


def _kind_of_bytes(text: str) -> NDArray[np.int8]:
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    kind = np.where(points > 0x24F, KINDS.index("other_script"), KINDS.index("prose")).astype(np.int8)
    kind[(points >= 0x2000) & (points < 0x2600)] = KINDS.index("prose")  # typographic marks, arrows, mathematics
    for match in _FENCE.finditer(text):
        kind[match.start() : match.end()] = KINDS.index("code")
    kind[(points >= 0x30) & (points <= 0x39)] = KINDS.index("digits")
    for name, ranges in (("cjk", _CJK), ("emoji", _EMOJI)):
        for low, high in ranges:
            kind[(points >= low) & (points <= high)] = KINDS.index(name)
    width = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    return np.repeat(kind, width)


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, zlib.error) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or error
        raise Refusal(f"text={path} cannot be read ({said}): expected a file of conversations") from error
    except UnicodeDecodeError as error:
        raise Refusal(f"text={path} is not UTF-8 (byte {error.start}): expected JSON or JSONL") from error


def _first_row(path: Path) -> Any:
    """The first row, which shows the form of the file; None where it does not."""
    text = _read(path).lstrip()
    try:
        row, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return row[0] if isinstance(row, list) and row else row


def _outputs(path: Path) -> list[str]:
    text = _read(path)
    try:
        rows = decoded(text) if text.lstrip().startswith("[") else [decoded(s) for s in text.splitlines() if s]
    except json.JSONDecodeError as error:
        raise Refusal(f"text={path} is not JSON (line {error.lineno}: {error.msg})") from error
    except ValueError as error:
        raise Refusal(f"text={path} holds a row that cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("output"), str):
            raise Refusal(f"text={path}, row {number}: no `output` text, which the first row has")
    return [row["output"] for row in rows]
