"""Canonical bytes: the bytes of an encoding's tokens, joined, are the text."""

import os
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fusion.conversations.vocabulary import byte_alphabet, token_bytes, vocabulary
from fusion.runtime.configure import Refusal

TEXTS = [
    "Hello  world! 12345",
    "naïve café — 你好,世界 😀👩‍👩‍👧",
    "def f(x):\n\treturn x**2  # é\n\n\n  end ",
]


published = lru_cache(AutoTokenizer.from_pretrained)


def joined(tokenizer, text: str) -> bytes:
    spelled = token_bytes(tokenizer)
    pieces = [spelled[token_id] for token_id in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert None not in pieces
    return b"".join(pieces)


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_tokens_join_to_the_text(coarse, text):
    assert joined(coarse, text) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_metaspace_tokens_join_to_the_text_behind_the_dummy_prefix(unigram, text):
    assert joined(unigram, text) == (" " + text).encode()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("name", "prefix"), [("mistral-v1", " "), ("phi3", " "), ("internlm2", ""), ("qwen2", "")])
def test_published_tokenizers_join_to_the_text(name, prefix, text):
    root = os.environ.get("FUSECHAT_LAB_DATA")
    if not root or not (Path(root) / "tokenizers" / name).is_dir():
        pytest.skip(f"set FUSECHAT_LAB_DATA to a folder with tokenizers/{name} (the fetch command writes it)")
    assert joined(published(Path(root) / "tokenizers" / name), text) == (prefix + text).encode()


def test_special_tokens_have_no_spelling(unigram):
    spelled = token_bytes(unigram)
    assert spelled[unigram.eos_token_id] is None
    assert spelled[unigram.unk_token_id] is None
    assert len(spelled) == len(unigram)


def test_added_tokens_that_are_not_special_are_spelled_as_written(coarse):
    tokenizer = deepcopy(coarse)
    tokenizer.add_tokens(["Ġé"])
    assert token_bytes(tokenizer)[-1] == "Ġé".encode()
    assert joined(tokenizer, "a Ġé b") == "a Ġé b".encode()


def test_byte_fallback_pieces_are_single_bytes():
    pieces = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}, "▁a": 257, "a": 258}
    backend = Tokenizer(models.BPE(vocab=pieces, merges=[], byte_fallback=True, unk_token="<unk>"))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    spelled = token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    assert spelled[1:257] == [bytes([byte]) for byte in range(256)]
    assert spelled[257] == b" a"


def test_the_byte_alphabet_is_the_library_s():
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_a_decoder_that_does_not_spell_text_is_refused():
    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(Refusal, match="decoder is WordPiece"):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))


def bare(backend: Tokenizer, **names: str) -> PreTrainedTokenizerFast:
    """The tokenizer as it is, saved without a decoder."""
    assert backend.decoder is None
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def trained(model, trainer, *, cut=None, normalizer=None) -> Tokenizer:
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.normalizer = cut, normalizer
    backend.train_from_iterator(TEXTS, trainer)
    return backend


@pytest.mark.parametrize(
    ("marks", "piece", "told"),
    [
        ({"continuing_subword_prefix": "@@"}, "@@b", "writes '@@' into a piece"),
        ({"end_of_word_suffix": "</w>"}, "b</w>", "writes '</w>' into a piece"),
    ],
)
def test_pieces_marked_as_parts_of_words_are_refused_whatever_the_decoder_is(marks, piece, told):
    backend = Tokenizer(models.BPE(vocab={"a": 0, piece: 1, " ": 2}, merges=[], **marks))
    with pytest.raises(Refusal, match=f"model is BPE, which {told}"):
        token_bytes(bare(backend))
    backend.decoder = decoders.Fuse()
    with pytest.raises(Refusal, match=f"model is BPE, which {told}"):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend))


def test_word_pieces_without_a_decoder_are_refused_too():
    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    with pytest.raises(Refusal, match="model is WordPiece, which writes '##'"):
        token_bytes(bare(backend, unk_token="[UNK]"))


@pytest.mark.parametrize(
    "cut", [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer()], ids=repr
)
@pytest.mark.parametrize(
    "model", [models.WordLevel(vocab={"?": 0, "a": 1}, unk_token="?"), models.BPE(vocab={"a": 0}, merges=[])], ids=repr
)
def test_a_tokenizer_that_drops_spaces_is_refused(model, cut):
    backend = Tokenizer(model)
    backend.pre_tokenizer = cut
    with pytest.raises(Refusal, match="drops the spaces between words"):
        token_bytes(bare(backend))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["bytes_by_pre_tokenizer", "bytes_by_normalizer", "unigram", "byte_fallback"])
def test_without_a_decoder_the_other_parts_say_how_pieces_are_spelled(kind, text):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    by_bytes = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    if kind == "bytes_by_pre_tokenizer":
        backend = trained(models.BPE(), by_bytes, cut=pre_tokenizers.ByteLevel(add_prefix_space=False))
    elif kind == "bytes_by_normalizer":
        backend = trained(models.BPE(), by_bytes, normalizer=normalizers.ByteLevel())
    elif kind == "unigram":
        by_likelihood = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
        backend = trained(models.Unigram(), by_likelihood, cut=pre_tokenizers.Metaspace(prepend_scheme="never"))
    else:
        pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"adehlo"]
        backend = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True))
        backend.normalizer = normalizers.Replace(" ", "▁")
    assert joined(bare(backend), text) == text.encode()


def test_the_unknown_token_is_the_one_the_model_writes_and_not_the_one_called_so(unigram, coarse):
    assert vocabulary(unigram).unknown == unigram("\ue000", add_special_tokens=False)["input_ids"][-1]
    called = deepcopy(coarse)
    called.unk_token = called.eos_token  # as GPT-2's: a byte-level model spells everything
    assert vocabulary(called).unk == called.eos_token_id
    assert vocabulary(called).unknown is None


def test_the_refusal_says_which_tokenizer_it_is_of():
    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(Refusal, match="tokenizer models/bert cannot be aligned"):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path="models/bert"))


def test_a_tokenizer_without_tokenizer_json_is_refused():
    class Slow:
        pass

    with pytest.raises(Refusal, match="fast tokenizer"):
        token_bytes(Slow())
