"""Tokenizers published only as a SentencePiece model or as tiktoken ranks, rebuilt as a `tokenizer.json`.

Both forms are byte-pair encodings that know scores of pieces, not the list of merges that `tokenizers` wants.  A merge
is therefore written for every way of cutting a piece into two pieces, ranked by the piece it makes.  The two algorithms
then choose the same merges, except where one text offers two cuts of the same piece at once: there the raw algorithm
takes the leftmost pair and ours the lower-ranked pair.  `first_difference` compares what the two do on real texts, and
`convert` refuses to leave a tokenizer that differs on any.

    python -m eval.benchmark_data set=tokenizers     fetches the raw files and calls this
"""

from __future__ import annotations

import base64
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from fusion.runtime.configure import Refusal

Encode = Callable[[str], list[int]]
_NORMAL, _CONTROL, _USER_DEFINED, _BPE = 1, 3, 4, 2  # the numbers of sentencepiece_model.proto
_SPACE = "▁"

PROBES = (
    "Hello, world! It's a fine day, isn't it?",
    "  two spaces, then\ta tab,\n\na blank line and trailing white space   \n",
    "def f(x):\n    return [i ** 2 for i in range(x) if i % 3 == 0]  # squares\n",
    "Zahlen: 0 7 42 1234567890 3.14159 -2e-5 1,000,000 0x1F",
    "Größe, façade, naïve, Łódź, Århus, Ελληνικά, Русский текст, עברית, العربية, हिन्दी, ไทย",
    "今天天气很好。我们去公园吧！ 日本語のテキスト 한국어 문장",
    "emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 and signs ∑∫√ ½ ™ “quotes” … — – -",
    "combining e\u0301 and composed \u00e9; ligature ﬁ; full width ＡＢＣ１２３",
    "https://example.org/a_b?c=d&e=%20f#g user@example.org",
    "| a | b |\n|---|---|\n| **1** | `2` |\n\\frac{1}{2} \\cdot x^{2}",
    "aaaaaaaaaaaaaaaaaaaaaaaa hahahahahaha !!!!!!! ------ ======",
    "WORDS inCamelCase and_snake_case, don't WE'LL they'Ve I'd",
    "x",
    "",
)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A folder whose `raw` file becomes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`."""

    folder: str
    raw: str
    form: Literal["sentencepiece", "tiktoken"]
    eos_token: str
    chat_template: str
    bos_token: str | None = None
    unk_token: str | None = None
    pad_token: str | None = None
    # Control tokens with their ids: in a SentencePiece model they rename pieces, in a tiktoken file, which has none,
    # they come after its ranks.
    special: Mapping[str, int] = field(default_factory=dict)
    pattern: str | None = None  # cuts text before merging (tiktoken only)

    def __post_init__(self) -> None:
        if (self.form == "tiktoken") != (self.pattern is not None):
            raise ValueError(f"{self.folder}: a pattern goes with the form tiktoken, and only with it")


def from_sentencepiece(model: bytes, *, special: Mapping[str, int]) -> Tokenizer:
    """The tokenizer of a serialised SentencePiece BPE `model`; the ids of `special` take those names.

    White space becomes "▁", a text gets one in front where the model says so, characters that no piece covers fall
    back to bytes, and user-defined pieces are found in the text before any merging.  Encoding starts with the model's
    begin-of-text piece unless special tokens are switched off.

    Raises Refusal for a model that is not BPE, that normalises text in more ways than by white space, or that both
    puts white space in front and has user-defined pieces: `tokenizers` would put it in front of the text after each.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    rules = proto.normalizer_spec
    if proto.trainer_spec.model_type != _BPE or rules.precompiled_charsmap or rules.remove_extra_whitespaces:
        raise Refusal(
            "the SentencePiece model is not a plain BPE (identity normaliser, white space kept): not converted"
        )
    defined = [p.piece for id_, p in enumerate(proto.pieces) if p.type == _USER_DEFINED and id_ not in special.values()]
    if defined and rules.add_dummy_prefix:
        raise Refusal(
            f"the SentencePiece model has a dummy prefix and user-defined pieces ({defined[0]!r}): not converted"
        )
    names = {id_: name for name, id_ in special.items()}
    vocabulary = {names.get(id_, piece.piece): id_ for id_, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}
    merges = _all_cuts(scores, key=lambda piece: -scores[piece], ids=vocabulary)
    unknown = proto.pieces[proto.trainer_spec.unk_id].piece
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=bool(proto.trainer_spec.byte_fallback),
        )
    )
    prefix = [normalizers.Prepend(_SPACE)] if rules.add_dummy_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    unprefix = [decoders.Strip(" ", 1, 0)] if rules.add_dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *unprefix]
    )
    control = [
        unknown,
        *(p.piece for p in proto.pieces if p.type == _CONTROL),
        *sorted(special, key=lambda name: special[name]),
    ]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in control])
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in defined])
    begin = proto.pieces[proto.trainer_spec.bos_id].piece
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, vocabulary[begin])]
    )
    return tokenizer


def from_tiktoken(ranks: bytes, *, pattern: str, special: Mapping[str, int]) -> Tokenizer:
    """The byte-level BPE of a tiktoken file (`base64 rank` a line), with text cut by `pattern` and put into NFC first.

    Raises Refusal when a special token's id is already a rank's.
    """
    spelled = _byte_spelling()
    vocabulary = {"".join(spelled[byte] for byte in token): rank for token, rank in _read_ranks(ranks).items()}
    taken = set(vocabulary.values()) & set(special.values())
    if taken:
        raise Refusal(f"special token id {min(taken)} is the rank of a token: special ids come after the last rank")
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=_all_cuts(vocabulary, key=vocabulary.__getitem__, ids=vocabulary))
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    ordered = sorted(special, key=lambda name: special[name])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in ordered])
    for name in ordered:
        if tokenizer.token_to_id(name) != special[name]:
            raise Refusal(
                f"special token {name} got id {tokenizer.token_to_id(name)}, not {special[name]}: ids leave a gap"
            )
    return tokenizer


def raw_encoder(path: Path, conversion: Conversion) -> Encode:
    """What the raw file itself, read by its own library, makes of a text."""
    if conversion.form == "sentencepiece":
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        return lambda text: list(processor.EncodeAsIds(text))
    import tiktoken

    assert conversion.pattern is not None
    encoding = tiktoken.Encoding(
        path.name,
        pat_str=conversion.pattern,
        mergeable_ranks=_read_ranks(path.read_bytes()),
        special_tokens=dict(conversion.special),
    )
    return lambda text: encoding.encode_ordinary(unicodedata.normalize("NFC", text))


def first_difference(tokenizer: Tokenizer, raw: Encode, texts: Iterable[str]) -> str | None:
    """The first text whose ids differ between the two, and where; None when they agree on all."""
    for text in texts:
        ours, theirs = tokenizer.encode(text, add_special_tokens=False).ids, raw(text)
        if ours != theirs:
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            return f"{text[:60]!r}, token {at}: {ours[at : at + 3]} is not {theirs[at : at + 3]}"
    return None


def converted(root: Path, conversion: Conversion) -> Tokenizer:
    """The tokenizer built from the raw file below `root`, not yet compared with it."""
    raw = (root / conversion.folder / conversion.raw).read_bytes()
    if conversion.form == "sentencepiece":
        return from_sentencepiece(raw, special=conversion.special)
    assert conversion.pattern is not None
    return from_tiktoken(raw, pattern=conversion.pattern, special=conversion.special)


def convert(root: Path, conversion: Conversion, texts: Iterable[str] = PROBES) -> bool:
    """Make sure that the folder holds a `tokenizer.json` that does what the raw file does on `texts`.

    One that is there is compared and kept; otherwise it is built, compared, and only then written.  Returns whether
    anything was written.

    Raises Refusal, naming the text, when the tokenizer and the raw file differ.
    """
    folder = root / conversion.folder
    target = folder / "tokenizer.json"
    there = target.exists()
    tokenizer = Tokenizer.from_file(str(target)) if there else converted(root, conversion)
    difference = first_difference(tokenizer, raw_encoder(folder / conversion.raw, conversion), texts)
    if difference is not None:
        whose = (
            f"{target} is not the tokenizer of {conversion.raw}"
            if there
            else f"{conversion.raw} was not converted exactly"
        )
        raise Refusal(
            f"{whose}: they differ on {difference}." + (" Move it away, and it is built again." if there else "")
        )
    written = [
        _write_new(folder / "tokenizer_config.json", json.dumps(_settings(conversion), indent=2) + "\n"),
        _write_new(folder / "chat_template.jinja", conversion.chat_template),
        _write_new(target, tokenizer.to_str()),  # last: a folder with this file is complete
    ]
    return any(written)


def _settings(conversion: Conversion) -> dict[str, object]:
    named = {name: getattr(conversion, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    given = {name: token for name, token in named.items() if token is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **given}


def _write_new(path: Path, text: str) -> bool:
    if path.exists():
        return False
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return True


def _all_cuts(
    pieces: Mapping[str, object], *, key: Callable[[str], object], ids: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Every (left, right) of pieces that makes a piece, those that make an earlier piece by `key` first."""
    order = {piece: rank for rank, piece in enumerate(sorted(pieces, key=lambda piece: (key(piece), ids[piece])))}
    cuts = (
        (piece[:at], piece[at:])
        for piece in pieces
        for at in range(1, len(piece))
        if piece[:at] in pieces and piece[at:] in pieces
    )
    return sorted(cuts, key=lambda cut: (order[cut[0] + cut[1]], ids[cut[0]], ids[cut[1]]))


def _read_ranks(ranks: bytes) -> dict[bytes, int]:
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in ranks.splitlines() if line)}


def _byte_spelling() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's convention).

    Bytes that are printable in Latin-1 stand for themselves; the others are numbered from U+0100 in order.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in itself else next(others)) for byte in range(256)]
