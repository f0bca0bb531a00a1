"""Tokenizers trained on the pocket dialogues, as unlike as those of real models.

    byte_bpe    byte-level BPE, NFC, a word takes the space before it: GPT-2's kind, Qwen2's and Llama-3's
    space_bpe   BPE over characters with a mark for the space and bytes for what it never saw, NFKC: Llama-2's kind

They differ further in how they cut: every figure alone (Qwen2), by three (Llama-3) or whole numbers; words to a longest
piece; rows of single letters across the spaces between them (as SuperBPE, arXiv 2503.13423, does with words).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPACE = "\u2581"  # the mark that stands for a space
_UNKNOWN = "<unk>"
_FIGURES: Mapping[str, str] = {"single": r"\p{N}", "triples": r"\p{N}{1,3}", "runs": r"\p{N}+"}
_LETTERS_APART = r" ?\b\p{L}\b(?: \p{L}\b)+"
# A word with the space or sign before it | figures | signs | spaces.  Qwen2's tokenizer class puts a cutting of its own
# in place of the file's; on the pocket's text the two agree where every figure is cut alone.
_CUT = r"[^\r\n\p{L}\p{N}]?\p{L}+|FIGURES| ?[^\s\p{L}\p{N}]+|\s+"


@dataclass(frozen=True, kw_only=True)
class PocketTokenizer:
    """How a pocket model's tokenizer is made."""

    kind: Literal["byte_bpe", "space_bpe"]
    vocab_size: int
    """At most so many entries, markers and the 256 bytes among them."""
    figures: Literal["single", "triples", "runs"] = "single"
    """What of a number may be one token: a figure, up to three from its left end, all of it."""
    longest: int | None = None
    """Of any piece, in characters; None: as long as the text gives."""
    letters_across_space: bool = False
    """Whether a row of single letters set apart by spaces is cut as one word, so that a token may hold two of them."""

    def __post_init__(self) -> None:
        if self.vocab_size < 320:
            raise ValueError(f"vocab_size is {self.vocab_size}: expected at least 320, of which 256 are bytes")
        if self.longest is not None and self.longest < 1:
            raise ValueError(f"longest is {self.longest}: expected at least 1 character, or null for any length")

    @property
    def cut(self) -> str:
        """A regular expression whose matches are the pieces that no token crosses."""
        words = _CUT.replace("FIGURES", _FIGURES[self.figures])
        return f"{_LETTERS_APART}|{words}" if self.letters_across_space else words


def train_tokenizer(config: PocketTokenizer, texts: Iterable[str], *, special: Sequence[str]) -> Tokenizer:
    """A tokenizer whose first entries are those of `special`; the same texts in any order give the same entries."""
    return {"byte_bpe": _byte_bpe, "space_bpe": _space_bpe}[config.kind](config, sorted(texts), special)


def _byte_bpe(config: PocketTokenizer, texts: Sequence[str], special: Sequence[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(config.cut), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=config.longest,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _space_bpe(config: PocketTokenizer, texts: Sequence[str], special: Sequence[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN, byte_fallback=True))
    # NFKC reads what looks alike as one: full-width figures, ligatures, squared signs.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", _SPACE)])
    # The mark is no letter, so the cut's spaces are marks here.
    cut = config.cut.replace(" ", _SPACE).replace(r"\s+", f"{_SPACE}+").replace(r"[^\s", rf"[^\s{_SPACE}")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(cut), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[*special, _UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256))],
        max_token_length=config.longest,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The bytes' names are entries of the model and no markers: text that holds one is not to become it.
    return _with_markers(tokenizer, [*special, _UNKNOWN])


def _with_markers(tokenizer: Tokenizer, markers: Sequence[str]) -> Tokenizer:
    """The same model, of whose entries only `markers` are found in text before it is cut."""
    from tokenizers import Tokenizer

    whole = Tokenizer(tokenizer.model)
    whole.normalizer, whole.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    whole.decoder = tokenizer.decoder
    whole.add_special_tokens(list(markers))
    return whole
