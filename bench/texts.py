"""Two tokenizers and rows of text to align: published ones where they are present, else ones made here."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class BenchText:
    """One text under one tokenizer, as a single assistant turn; arrays [L]."""

    label_ids: NDArray[np.int32]
    turn: NDArray[np.int16]
    start: NDArray[np.int32]
    end: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Tokenizers of a pivot and a source, and texts of about ROW_TOKENS pivot tokens each."""

    name: str
    pivot: Any
    source: Any
    texts: list[str]

    def row(self, tokenizer: Any, text: str) -> BenchText:
        """The labelled row of an ASCII text, where a character is a byte."""
        encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        start, end = np.array(encoded.offsets, np.int32).T
        length = len(encoded.ids)
        return BenchText(
            label_ids=np.array(encoded.ids, np.int32),
            turn=np.zeros(length, np.int16),
            start=np.ascontiguousarray(start),
            end=np.ascontiguousarray(end),
        )


def material(count: int) -> Material:
    """`count` texts: AlpacaEval's published answers and the tokenizers of Mistral and Qwen, where they are present."""
    root = Path(os.environ.get("FUSECHAT_LAB_DATA", "data"))
    answers = root / "alpaca_eval/alpaca_eval_gpt4_baseline.json.gz"
    folders = [root / "tokenizers" / name for name in ("mistral-v1", "qwen2")]
    if answers.exists() and all((folder / "tokenizer.json").exists() for folder in folders):
        with gzip.open(answers, "rt", encoding="utf-8") as stream:
            words = " ".join(row["output"] for row in json.load(stream) if row["output"].isascii())
        pivot, source = (_fast(str(folder / "tokenizer.json")) for folder in folders)
        name = "Mistral and Qwen2 vocabularies"
    else:
        words = sentences(count)
        pivot, source = trained(words, 2_000), trained(words, 8_000)
        name = "vocabularies of 2,000 and 8,000 made here"
    ends = [end for _, end in pivot.backend_tokenizer.encode(words, add_special_tokens=False).offsets]
    cuts = [0, *ends[ROW_TOKENS - 1 :: ROW_TOKENS]][: count + 1]
    return Material(
        name=name,
        pivot=pivot,
        source=source,
        texts=[words[begin:end].strip() for begin, end in pairwise(cuts)],
    )


def _fast(path: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=path)


def trained(text: str, size: int) -> Any:
    """A byte-level BPE of at most `size` ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentences(count: int) -> str:
    """Words of random syllables, a few hundred kinds by Zipf's law, enough for `count` rows."""
    draw = random.Random(0)
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "ing")]
    kinds = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(12_000)]
    weights = [1 / (rank + 1) for rank in range(len(kinds))]
    return " ".join(draw.choices(kinds, weights, k=count * ROW_TOKENS))
