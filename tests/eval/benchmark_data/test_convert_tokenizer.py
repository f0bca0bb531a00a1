"""Tokenizers rebuilt from raw files: small ones made here, and the published ones where their files are present."""

import base64
import io
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from eval.benchmark_data.__main__ import benchmark_data
from eval.benchmark_data.convert_tokenizer import (
    PROBES,
    Conversion,
    convert,
    converted,
    first_difference,
    from_sentencepiece,
    from_tiktoken,
    raw_encoder,
)
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal, typed

CORPUS = ["the cat sat on the mat", "a cat and a hat", "that hat that sat"] * 20
PUBLISHED = ("tokenizers/mistral-v1", "tokenizers/internlm2", "tokenizers/qwen2")


def sentencepiece_model(**options: object) -> bytes:
    """A BPE model of 300 pieces with byte fallback, trained on CORPUS."""
    sentencepiece = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=out,
        model_type="bpe",
        vocab_size=290,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return out.getvalue()


def chat(**changes: object) -> Conversion:
    values: dict[str, object] = {
        "folder": "small",
        "raw": "tokenizer.model",
        "form": "sentencepiece",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": "{{ messages[0].content }}",
    }
    return typed({**values, **changes}, Conversion)


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_a_sentencepiece_model_and_its_conversion_encode_alike(tmp_path: Path, dummy_prefix: bool) -> None:
    model = sentencepiece_model(add_dummy_prefix=dummy_prefix)
    (tmp_path / "tokenizer.model").write_bytes(model)
    tokenizer = from_sentencepiece(model, special={})
    assert (
        first_difference(tokenizer, raw_encoder(tmp_path / "tokenizer.model", chat()), [*CORPUS[:3], *PROBES]) is None
    )


def test_decoding_gives_the_text_back(tmp_path: Path) -> None:
    tokenizer = from_sentencepiece(sentencepiece_model(), special={})
    for text in ("the cat  sat", " leading", "ünïcödé 🙂"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_user_defined_pieces_are_found_before_merging(tmp_path: Path) -> None:
    model = sentencepiece_model(user_defined_symbols=["<sep>", "cat sat"], add_dummy_prefix=False)
    (tmp_path / "tokenizer.model").write_bytes(model)
    tokenizer = from_sentencepiece(model, special={})
    texts = ["the<sep>hat", "a cat<sep><sep> sat"]
    assert tokenizer.token_to_id("<sep>") in tokenizer.encode(texts[0]).ids
    assert first_difference(tokenizer, raw_encoder(tmp_path / "tokenizer.model", chat()), texts) is None


def test_user_defined_pieces_with_a_dummy_prefix_are_refused() -> None:
    with pytest.raises(Refusal, match="dummy prefix and user-defined pieces"):
        from_sentencepiece(sentencepiece_model(user_defined_symbols=["<sep>"]), special={})


def test_a_special_token_takes_the_id_it_is_given() -> None:
    model = sentencepiece_model(user_defined_symbols=["[UNUSED]"], add_dummy_prefix=False)
    unused = from_sentencepiece(model, special={}).token_to_id("[UNUSED]")
    tokenizer = from_sentencepiece(model, special={"<|end|>": unused})
    assert tokenizer.encode("cat<|end|>").ids[-1] == unused
    assert tokenizer.token_to_id("[UNUSED]") is None


def test_a_model_that_is_no_bpe_is_refused() -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, model_type="unigram", vocab_size=40, hard_vocab_limit=False
    )
    with pytest.raises(Refusal, match="not a plain BPE"):
        from_sentencepiece(out.getvalue(), special={})


def tiktoken_ranks() -> bytes:
    """All 256 bytes, then 'th', 'he', 'the', 'at', ' the': ranks 0 to 260."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"th", b"he", b"the", b"at", b" the"]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def test_tiktoken_ranks_become_merges() -> None:
    tokenizer = from_tiktoken(tiktoken_ranks(), pattern=r"\s?\w+|\s+|.", special={"<|end|>": 261})
    # "th" (256) comes before "he", so the first word is th+e = 258; " the" is made of " " and "the".
    assert tokenizer.encode("the the").ids == [258, 260]
    assert tokenizer.encode("hat<|end|>").ids == [ord("h"), 259, 261]
    assert tokenizer.decode(tokenizer.encode("thé 🙂").ids) == "thé 🙂"


def test_a_special_id_that_is_a_rank_is_refused() -> None:
    with pytest.raises(Refusal, match="id 258 is the rank of a token"):
        from_tiktoken(tiktoken_ranks(), pattern=r".", special={"<|end|>": 258})


def test_a_folder_is_completed_and_loads(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small/tokenizer.model").write_bytes(sentencepiece_model())
    assert convert(tmp_path, chat())
    assert not convert(tmp_path, chat())
    assert json.loads((tmp_path / "small/tokenizer_config.json").read_text())["eos_token"] == "</s>"
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "small")
    assert loaded("the cat").input_ids[0] == loaded.bos_token_id
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_a_tokenizer_that_is_not_the_raw_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small/tokenizer.model").write_bytes(sentencepiece_model())
    from_tiktoken(tiktoken_ranks(), pattern=r".", special={}).save(str(tmp_path / "small/tokenizer.json"))
    with pytest.raises(Refusal, match="is not the tokenizer of tokenizer.model.*Move it away"):
        convert(tmp_path, chat())


@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_tokenizers_are_rebuilt_exactly(data_root: Path, folder: str) -> None:
    conversions = benchmark_data(compose("benchmark_data", [])).conversions["tokenizers"]
    conversion = next(each for each in conversions if each.folder == folder)
    place = data_root / folder
    if not (place / conversion.raw).exists():
        pytest.skip(f"{place / conversion.raw} is missing: python -m eval.benchmark_data set=tokenizers")
    texts = list(PROBES)
    questions = data_root / "mt_bench/question.jsonl"
    if questions.exists():
        texts += [turn for line in questions.read_text().splitlines() for turn in json.loads(line)["turns"]]
    tokenizer = converted(data_root, conversion)
    assert first_difference(tokenizer, raw_encoder(place / conversion.raw, conversion), texts) is None
    if (place / "tokenizer.json").exists():
        there = Tokenizer.from_file(str(place / "tokenizer.json"))
        assert first_difference(tokenizer, lambda text: there.encode(text, add_special_tokens=False).ids, texts) is None
