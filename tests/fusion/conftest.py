"""Little tokenizers, and the tokens of texts as rows of a representation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fusion.align.audit import NO_LABEL, text_row
from fusion.distribution import TopK

CORPUS = [
    "the cat sat on the mat and the dog sat on the log",
    "a hat, a bat; the théâtre façade — naïve café",
    "12 + 34 = 46, 100 - 1 = 99 and 7 * 8 = 56",
    "你好,世界 this is 😀 a 👩‍👩‍👧 family",
    "def f(x):\n\treturn x ** 2  # squared\n\n  print(f(3))",
    "Hello  world! 98765 — one, two: three;\n\n\n  end # *",
    "another sentence with other words whatever they are",
] * 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One conversation of a representation."""

    conversation_id: str
    label_ids: NDArray[np.int32]
    turn: NDArray[np.int16]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    top: TopK
    nll: float = 1.0
    bytes: int = 1


def trained_byte_level(size: int) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|start|>"],
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


def trained_unigram(size: int) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def coarse() -> PreTrainedTokenizerFast:
    """Byte-level BPE with many merges."""
    return trained_byte_level(400)


@pytest.fixture(scope="session")
def fine() -> PreTrainedTokenizerFast:
    """Byte-level BPE with few merges."""
    return trained_byte_level(290)


@pytest.fixture(scope="session")
def unigram() -> PreTrainedTokenizerFast:
    """Unigram with a space marker and a dummy space in front."""
    return trained_unigram(150)


@pytest.fixture(scope="session")
def tokenizers(coarse: Any, fine: Any, unigram: Any) -> dict[str, PreTrainedTokenizerFast]:
    return {"coarse": coarse, "fine": fine, "unigram": unigram}


def random_top(generator: np.random.Generator, positions: int, vocabulary: int, k: int = 5) -> TopK:
    """Distributions over the whole vocabulary, of which the k likeliest entries are kept."""
    full = generator.dirichlet(np.full(vocabulary, 0.05), size=positions)
    ids = np.argsort(-full, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(full, ids, axis=1)
    with np.errstate(divide="ignore"):
        # half precision, as stored, so that reading back is exact
        log_probs = np.log(kept).astype(np.float16).astype(np.float32)
        tail = np.log1p(-np.minimum(np.exp(log_probs, dtype=np.float64).sum(1), 1.0)).astype(np.float32)
    return TopK(ids=np.where(np.isfinite(log_probs), ids, -1).astype(np.int32), log_probs=log_probs, tail=tail)


@pytest.fixture(scope="session")
def represented() -> Callable[..., Row]:
    """A row as a model with this tokenizer would give it for these assistant turns."""

    def row(tokenizer: Any, turns: Sequence[str], *, name: str = "c0", seed: int = 0) -> Row:
        plain = text_row(tokenizer, turns)
        labels = np.where(plain.label_ids == NO_LABEL, tokenizer.eos_token_id, plain.label_ids).astype(np.int32)
        return Row(
            conversation_id=name,
            label_ids=labels,
            turn=plain.turn,
            start=plain.start,
            end=plain.end,
            top=random_top(np.random.default_rng(seed), len(labels), len(tokenizer)),
            nll=float(len(labels)),
            bytes=sum(len(turn.encode()) for turn in turns),
        )

    return row
