"""Tokens in one common spelling: the canonical byte string of every vocabulary id.

Two vocabularies can only be compared in a spelling that belongs to neither.  Here it is bytes: a token is spelled as
the UTF-8 bytes it stands for in the text, a space marker as the space it stands for.  Everything is read from the
content of tokenizer.json (the decoder first, then the pre-tokenizer and the model); no class name is looked at, which
is where the released code went wrong for tokenizers it did not list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTE_PIECE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")
_DECODERS = ("ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip")
_SPELLED: WeakKeyDictionary[PreTrainedTokenizerFast, tuple[int, list[bytes | None]]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """What alignment needs to know of a tokenizer.  Lists are indexed by id; `None` where an id has no piece at all."""

    pieces: list[str | None]  # as written in tokenizer.json, space marker kept
    spelled: list[bytes | None]  # canonical bytes; None also for special tokens
    marker: str  # what a piece writes for a space
    decode_drops_space: bool  # decoding one token alone drops the space in front of it (SentencePiece conversions)
    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    pad: int | None = None
    end_of_turn: int | None = None  # what the chat template puts behind assistant content
    unknown: int | None = (
        None  # what stands for text that no piece spells; `unk` only has that name, and may be another
    )

    def __len__(self) -> int:
        return len(self.pieces)


def vocabulary(tokenizer: PreTrainedTokenizerFast, *, end_of_turn: int | None = None) -> Vocabulary:
    """The vocabulary of a Hugging Face fast tokenizer.  Raises Refusal as `token_bytes` does."""
    content = specification(tokenizer)
    spelled = token_bytes(tokenizer)
    pieces: list[str | None] = [None] * len(spelled)
    known = _model_vocabulary(content["model"])
    for piece, token_id in known.items():
        pieces[token_id] = piece
    for token in content.get("added_tokens") or []:
        pieces[int(token["id"])] = str(token["content"])
    decoders = _flattened(content.get("decoder"), "decoders")
    return Vocabulary(
        pieces=pieces,
        spelled=spelled,
        marker=_space_marker(content),
        decode_drops_space=any(
            (part["type"] == "Strip" and part["content"] == " " and part["start"] > 0)
            or (part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never")
            for part in decoders
        ),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        unk=tokenizer.unk_token_id,
        pad=tokenizer.pad_token_id,
        end_of_turn=end_of_turn,
        unknown=_unknown_id(content["model"], known),
    )


def same_tokenizer(one: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast) -> bool:
    """Whether two tokenizers split every text alike: equal in all parts of tokenizer.json that decide on ids."""
    parts = ("normalizer", "pre_tokenizer", "model", "added_tokens")
    first, second = specification(one), specification(other)
    return all(first.get(part) == second.get(part) for part in parts)


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> list[bytes | None]:
    """The canonical bytes of every id of a Hugging Face fast tokenizer; None for special tokens and unused ids.

    The list is as long as the largest id plus one; a model's logits may be wider.  Pieces with a space marker keep the
    space it stands for, also at the start of a text, where a tokenizer with a dummy prefix put it there itself.
    Pieces of byte-level and byte-fallback vocabularies can be any bytes, not whole characters.

    Raises Refusal when the tokenizer has no tokenizer.json, or its tokens do not spell text one by one: by its decoder,
    by marks of its model for parts of words, or because it gives no token the spaces between words.
    """
    try:
        known = _SPELLED.get(tokenizer)
    except TypeError:  # not hashable or not weakly referable: compute every time
        return _spell_all(tokenizer)
    if known is not None and known[0] == len(tokenizer):
        return known[1]
    spelled = _spell_all(tokenizer)
    _SPELLED[tokenizer] = (len(tokenizer), spelled)
    return spelled


def specification(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The content of the tokenizer's tokenizer.json.  Raises Refusal when it has none (a slow tokenizer)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise Refusal(
            f"{type(tokenizer).__name__} has no tokenizer.json behind it: alignment needs a fast tokenizer;"
            " load it with AutoTokenizer and save it with save_pretrained"
        )
    described: dict[str, Any] = json.loads(backend.to_str())
    return described


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level vocabularies write for each of the 256 bytes (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    return {**table, **{chr(256 + rank): byte for rank, byte in enumerate(hidden)}}


def _spell_all(tokenizer: PreTrainedTokenizerFast) -> list[bytes | None]:
    content = specification(tokenizer)
    vocabulary = _model_vocabulary(content["model"])
    added = {int(token["id"]): token for token in content.get("added_tokens") or []}
    spelled: list[bytes | None] = [None] * (max([*vocabulary.values(), *added], default=-1) + 1)
    spell = piece_speller(content)
    _check_spelling(tokenizer, content, spell)
    for piece, token_id in vocabulary.items():
        spelled[token_id] = spell(piece)
    for token_id, token in added.items():
        # An added token is matched in the text as it is written, byte-level alphabet or not.
        spelled[token_id] = None if token["special"] else str(token["content"]).encode()
    for token_id in _special_ids(tokenizer, content, vocabulary):
        if token_id < len(spelled):
            spelled[token_id] = None
    return spelled


def _special_ids(
    tokenizer: PreTrainedTokenizerFast, content: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> list[int]:
    ids = [_unknown_id(content["model"], vocabulary), *getattr(tokenizer, "all_special_ids", [])]
    return [int(token_id) for token_id in ids if token_id is not None]


def _unknown_id(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> int | None:
    """The id that the model writes for text it has no piece for; a byte-level model has none."""
    named = model.get("unk_token")
    found = model.get("unk_id") if named is None else vocabulary.get(named)
    return None if found is None else int(found)


def _model_vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    pieces = model["vocab"]
    if isinstance(pieces, Mapping):
        return {str(piece): int(token_id) for piece, token_id in pieces.items()}
    return {str(entry[0]): token_id for token_id, entry in enumerate(pieces)}  # Unigram: [piece, score] in id order


def piece_speller(content: Mapping[str, Any]) -> Callable[[str], bytes]:
    """How the pieces of this tokenizer.json spell bytes, if they are of a kind that does."""
    decoders = list(_flattened(content.get("decoder"), "decoders"))
    before = list(_flattened(content.get("pre_tokenizer"), "pretokenizers"))
    normalizers = list(_flattened(content.get("normalizer"), "normalizers"))
    if any(part["type"] == "ByteLevel" for part in [*decoders, *before, *normalizers]):
        return _spell_byte_level
    replacements = _replacements(decoders) or _replacements(before) or _marker_of_normalizer(normalizers)
    byte_fallback = bool(content["model"].get("byte_fallback")) or any(d["type"] == "ByteFallback" for d in decoders)

    def spell(piece: str) -> bytes:
        match = BYTE_PIECE.match(piece) if byte_fallback else None
        if match:
            return bytes([int(match.group(1), 16)])
        for written, meant in replacements:
            piece = piece.replace(written, meant)
        return piece.encode()

    return spell


def _check_spelling(
    tokenizer: PreTrainedTokenizerFast, content: Mapping[str, Any], spell: Callable[[str], bytes]
) -> None:
    """Raise Refusal where pieces are no text by themselves: by the decoder, the model's marks, or spaces in none."""
    model = content["model"]
    marks = [model[mark] for mark in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(mark)]
    strange = [part["type"] for part in _flattened(content.get("decoder"), "decoders") if part["type"] not in _DECODERS]
    if strange:
        reason = f"its decoder is {strange[0]}"
    elif marks:
        reason = (
            f"its model is {model['type']}, which writes '{marks[0]}' into a piece for where a word goes on or ends"
        )
    elif b" " not in spell("".join(_words(tokenizer, "a a"))):
        reason = "it drops the spaces between words before it looks up tokens"
    else:
        return
    raise Refusal(
        f"the tokenizer {tokenizer.name_or_path or 'given'} cannot be aligned: {reason}, so that the text of one token"
        " is not known without its neighbours. Alignment takes byte-level, metaspace and byte-fallback vocabularies:"
        " leave this model out"
    )


def _words(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """What the model is given to look up in."""
    normalizer, cut = tokenizer.backend_tokenizer.normalizer, tokenizer.backend_tokenizer.pre_tokenizer
    text = text if normalizer is None else normalizer.normalize_str(text)
    return [text] if cut is None else [word for word, _ in cut.pre_tokenize_str(text)]


def _spell_byte_level(piece: str) -> bytes:
    table = byte_alphabet()
    try:
        return bytes([table[character] for character in piece])
    except KeyError:  # a piece outside the alphabet is decoded as it is written
        return piece.encode()


def _replacements(parts: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    found = []
    for part in parts:
        if part["type"] == "Metaspace":
            found.append((str(part["replacement"]), " "))
        elif part["type"] == "Replace" and "String" in part["pattern"]:
            found.append((str(part["pattern"]["String"]), str(part["content"])))
    return found


def _marker_of_normalizer(normalizers: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """With no decoder to read, a normalizer that writes a marker for a space tells what the marker means."""
    return [
        (str(part["content"]), " ")
        for part in normalizers
        if part["type"] == "Replace" and part["pattern"].get("String") == " " and part["content"]
    ]


def _space_marker(content: Mapping[str, Any]) -> str:
    spell = piece_speller(content)
    return next((marker for marker in ("\u0120", "\u2581") if spell(marker) == b" "), " ")


def _flattened(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [leaf for child in part[inner] for leaf in _flattened(child, inner)]
    return [part]
