"""Tokenizers trained on the pocket dialogues: byte-level BPE, and Unigram with a space mark and byte fallback.

In both a word takes the space before it, and every figure of a number is a token of its own, as in most of today's
models that compute.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer

from fusion.runtime.configure import Refusal

_SPACE = "\u2581"  # the mark that stands for a space in Unigram pieces
_UNKNOWN = "<unk>"
# A word with the space or sign before it | one figure | signs | spaces.  Qwen2's tokenizer class puts a cutting of its
# own in place of the file's; on the pocket's text the two agree.
_CUT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def train_tokenizer(
    kind: Literal["byte_bpe", "unigram"], texts: Iterable[str], *, special: Sequence[str], vocab_size: int
) -> Tokenizer:
    """A tokenizer of at most `vocab_size` entries, those of `special` first; the same texts give the same entries."""
    return {"byte_bpe": _byte_bpe, "unigram": _unigram}[kind](sorted(texts), special, vocab_size)


def _byte_bpe(texts: Sequence[str], special: Sequence[str], vocab_size: int) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CUT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(texts: Sequence[str], special: Sequence[str], vocab_size: int) -> Tokenizer:
    """The commonest words and all single characters, weighted by how often they occur.

    The library's own trainer takes its pieces from what different words have in common, and a text of so few words
    would be left with syllables.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
        ]
    )
    words = Counter(word for text in texts for word, _ in cut.pre_tokenize_str(text))
    reserved = [*special, _UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256))]
    characters = sorted({character for word in words for character in word})
    room = vocab_size - len(reserved) - len(characters)
    if room < 1:
        raise Refusal(f"vocab_size is {vocab_size}: expected more than {len(reserved) + len(characters)} for Unigram")
    longer = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))[:room]
    total = math.log(sum(words.values()))
    scores = {word: math.log(words[word]) - total for word in longer}
    # A character costs more than any word, so that words are spelled only where they have no piece.
    rarest = min(scores.values(), default=0.0)
    scores |= dict.fromkeys(characters, rarest - 1.0)
    table = [(piece, rarest - 10.0 if piece.startswith("<0x") else 0.0) for piece in reserved]
    tokenizer = Tokenizer(models.Unigram([*table, *scores.items()], unk_id=len(special), byte_fallback=True))
    tokenizer.add_special_tokens([*special, _UNKNOWN])
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(replacement=_SPACE, prepend_scheme="never")]
    )
    return tokenizer
