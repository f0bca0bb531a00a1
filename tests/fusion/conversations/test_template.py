"""Which tokens are labelled, and where their text lies, under templates and tokenizers of every kind we meet."""

from __future__ import annotations

import functools
import gzip
import json
import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.template import LabelledRow, end_of_turn_id, label_rows
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.configure import Refusal

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OPENCHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ 'GPT4 Correct ' + m['role'].title() + ': ' + m['content'] + '<|end_of_turn|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)
INSTRUCT = (  # asks for no generation prompt, as Mistral's
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end_of_turn|>"]
CORPUS = [
    "GPT4 Correct User: hello there GPT4 Correct Assistant: hello, how are you? I am well.",
    "user assistant system [INST] what is it [/INST] it is [a link](to a page), 日本語 Grüße aus Köln.",
]
TEXTS = [
    "Hi",
    "  two spaces before, one after ",
    "Grüße, 日本語 😀👩‍💻!",
    "a\n\nb\tc\n",
    "ﬁne e\u0301 ½",
    "1",
    "x" * 400,
]


def label_row(tokenizer: Any, conversation: Conversation, *, max_length: int) -> LabelledRow | None:
    return label_rows(tokenizer, [conversation], max_length=max_length)[0]


def _wrapped(backend: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def _byte_level(template: str | None = CHATML, *, trim: bool = False, nfc: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    if nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.ByteLevel(trim_offsets=trim)
    return _wrapped(backend, template)


def _metaspace_unigram(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Unigram with a metaspace and byte fallback; a dummy prefix at the start of the text only."""
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted({c for text in CORPUS for c in text if c.isascii() and c != " "})
    words = ["▁", "▁hello", "▁how", "▁Assistant", "▁Correct", "GPT", "istant", "ell", "▁a", "▁▁"]
    vocabulary = (
        [(piece, 0.0) for piece in pieces] + [(letter, -6.0) for letter in letters] + [(word, -3.0) for word in words]
    )
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    backend.add_special_tokens(SPECIALS)
    return _wrapped(backend, template)


def _sentencepiece_bpe(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """BPE as converted from SentencePiece: a normaliser prepends the marker to every stretch between special tokens."""
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"aehilortuw[]():/", "▁h", "ll", "▁he", "]["]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("▁", "h"), ("l", "l"), ("▁h", "e"), ("]", "[")]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(SPECIALS)
    return _wrapped(backend, template)


KINDS = {
    "byte_level": _byte_level,
    "byte_level_trimmed_offsets": lambda template=CHATML: _byte_level(template, trim=True),
    "metaspace_unigram": _metaspace_unigram,
    "sentencepiece_bpe": _sentencepiece_bpe,
}


def _conversation(*contents: str, name: str = "c") -> Conversation:
    roles = ("user", "assistant")
    return Conversation(
        id=name, messages=tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(contents))
    )


def _answers(conversation: Conversation) -> list[bytes]:
    return [message.content.encode() for message in conversation.messages if message.role == "assistant"]


def _spans(tokenizer: Any, row: LabelledRow) -> list[tuple[str, int, int, int]]:
    pieces = tokenizer.convert_ids_to_tokens(row.input_ids[row.positions].tolist())
    return list(zip(pieces, row.turn.tolist(), row.start.tolist(), row.end.tolist(), strict=True))


def _prompt_ids(tokenizer: Any, conversation: Conversation, answer: int) -> list[int]:
    """The tokens behind which a server has the model write that answer."""
    places = [place for place, message in enumerate(conversation.messages) if message.role == "assistant"]
    said = [{"role": m.role, "content": m.content} for m in conversation.messages[: places[answer]]]
    text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _check_spelling(tokenizer: Any, conversation: Conversation, row: LabelledRow) -> None:
    """Every span holds its token's own bytes, spans tile the contents, and each turn ends in its end token.

    Only the first token of an answer may be missing, and only where the tokens before it are not the prompt's.
    """
    spelled, end_of_turn, contents = token_bytes(tokenizer), end_of_turn_id(tokenizer), _answers(conversation)
    reached = [0] * len(contents)
    for turn in range(len(contents)):
        at = int(np.flatnonzero(row.turn == turn)[0])
        prompt = _prompt_ids(tokenizer, conversation, turn)
        if row.input_ids[: len(prompt)].tolist() != prompt:
            reached[turn] = int(row.start[at])
    for token_id, turn, start, end in zip(
        row.input_ids[row.positions].tolist(), row.turn.tolist(), row.start.tolist(), row.end.tolist(), strict=True
    ):
        assert start == reached[turn]
        reached[turn] = end
        if start == end == len(contents[turn]):
            assert token_id == end_of_turn
            continue
        piece = spelled[token_id]
        assert piece is not None
        assert contents[turn][start:end] in (piece, piece.lstrip(b" "))  # a dummy space lies outside
    assert reached == [len(content) for content in contents]
    assert row.content_bytes.tolist() == reached
    assert int((row.input_ids[row.positions] == end_of_turn).sum()) == len(contents)


def test_openchat_turns_are_labelled_as_in_the_worked_example() -> None:
    tokenizer = _metaspace_unigram(OPENCHAT)
    row = label_row(tokenizer, _conversation("x", "hello Grü"), max_length=100)
    assert row is not None
    assert _spans(tokenizer, row) == [
        ("▁hello", 0, 0, 5),  # the space before it is the template's
        ("▁", 0, 5, 6),
        ("G", 0, 6, 7),
        ("r", 0, 7, 8),
        ("<0xC3>", 0, 8, 9),  # two tokens share the ü
        ("<0xBC>", 0, 9, 10),
        ("<|end_of_turn|>", 0, 10, 10),
    ]


@pytest.mark.parametrize("template", [CHATML, OPENCHAT, INSTRUCT], ids=["chatml", "openchat", "instruct"])
@pytest.mark.parametrize("kind", KINDS)
def test_spans_tile_every_assistant_turn_with_the_tokens_own_bytes(kind: str, template: str) -> None:
    tokenizer = KINDS[kind](template)
    conversation = _conversation("first", TEXTS[2], TEXTS[1], TEXTS[3], TEXTS[3], TEXTS[0])
    row = label_row(tokenizer, conversation, max_length=10_000)
    assert row is not None
    if template != INSTRUCT:
        _check_spelling(tokenizer, conversation, row)
    # What is not labelled is the template's or the user's: no labelled token lies before its prompt.
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "first"}], tokenize=False, add_generation_prompt=True
    )
    prompt = len(tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"])
    assert row.positions[0] >= prompt - 1


_CHARACTERS = st.one_of(st.sampled_from("a b\n[]é日😀\u0301\u200d "), st.characters(exclude_categories=("Cs",)))
_TOKENIZERS: dict[str, Any] = {}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(_CHARACTERS, min_size=1, max_size=12), min_size=2, max_size=4), st.sampled_from(sorted(KINDS)))
def test_any_text_is_tiled_exactly(contents: list[str], kind: str) -> None:
    if kind not in _TOKENIZERS:
        _TOKENIZERS[kind] = KINDS[kind]()
    tokenizer = _TOKENIZERS[kind]
    contents = [f"{text}." for text in contents]
    conversation = _conversation(*contents)
    row = label_row(tokenizer, conversation, max_length=10_000)
    assert row is not None
    _check_spelling(tokenizer, conversation, row)


def test_a_normaliser_that_composes_letters_leaves_spans_that_tile_the_text_as_given() -> None:
    tokenizer = _byte_level(nfc=True)
    conversation = _conversation("q", "e\u0301a ☃")
    row = label_row(tokenizer, conversation, max_length=100)
    assert row is not None
    starts, ends = row.start[:-1].tolist(), row.end[:-1].tolist()
    assert starts == [0, *ends[:-1]]
    assert ends[-1] == len(_answers(conversation)[0]) == 8
    by_token = dict(zip(ends, tokenizer.convert_ids_to_tokens(row.input_ids[row.positions[:-1]].tolist()), strict=True))
    assert by_token[4] == "a"  # e and the accent took 0 to 3


def test_truncation_keeps_the_labels_before_the_cut_and_the_whole_content_length() -> None:
    tokenizer = _byte_level()
    conversation = _conversation("q", TEXTS[6], "r", "never")
    whole = label_row(tokenizer, conversation, max_length=10_000)
    cut = label_row(tokenizer, conversation, max_length=100)
    assert whole is not None
    assert cut is not None
    assert len(cut.input_ids) == 100
    assert cut.positions[-1] == 99
    kept = len(cut.positions)
    np.testing.assert_array_equal(cut.positions, whole.positions[:kept])
    np.testing.assert_array_equal(cut.end, whole.end[:kept])
    assert cut.content_bytes.tolist() == [400]
    assert whole.content_bytes.tolist() == [400, 5]


def test_no_label_within_the_limit_is_none() -> None:
    assert label_row(_byte_level(), _conversation("a long question", "yes"), max_length=5) is None


def test_rows_labelled_together_equal_rows_labelled_alone() -> None:
    tokenizer = _byte_level()
    conversations = [_conversation("q", text, name=str(number)) for number, text in enumerate(TEXTS)]
    for conversation, row in zip(conversations, label_rows(tokenizer, conversations, max_length=64), strict=True):
        alone = label_row(tokenizer, conversation, max_length=64)
        assert row is not None
        assert alone is not None
        for name in ("input_ids", "positions", "turn", "start", "end", "content_bytes"):
            np.testing.assert_array_equal(getattr(row, name), getattr(alone, name))


def test_a_text_begins_once_though_the_tokenizer_would_begin_it_too() -> None:
    tokenizer = _byte_level(OPENCHAT)
    plain = label_row(tokenizer, _conversation("q", "an answer"), max_length=64)
    begin = tokenizer.convert_tokens_to_ids("<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    assert tokenizer("q")["input_ids"][0] == begin  # as Llama's and Mistral's do
    row = label_row(tokenizer, _conversation("q", "an answer"), max_length=64)
    assert row is not None and plain is not None
    assert row.input_ids.tolist().count(begin) == 1
    for name in ("input_ids", "positions", "start", "end"):
        np.testing.assert_array_equal(getattr(row, name), getattr(plain, name))


def test_the_end_of_turn_is_what_the_template_writes_not_the_eos_token() -> None:
    tokenizer = _byte_level()
    assert tokenizer.eos_token == "</s>"
    assert end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.chat_template = INSTRUCT
    assert end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids("</s>")


def test_whitespace_between_content_and_end_token_is_not_labelled() -> None:
    tokenizer = _byte_level(CHATML.replace("m['content'] + '<|im_end|>", "m['content'] + ' <|im_end|>"))
    row = label_row(tokenizer, _conversation("q", "yes"), max_length=100)
    assert row is not None
    assert row.end.tolist()[-2:] == [3, 3]
    assert row.positions[-1] - row.positions[-2] == 2


def test_a_token_of_template_and_content_together_is_not_learned() -> None:
    tokenizer = _sentencepiece_bpe(INSTRUCT)
    row = label_row(tokenizer, _conversation("q", "[a](to)"), max_length=100)
    assert row is not None
    assert _spans(tokenizer, row)[0] == ("a", 0, 1, 2)  # "][" is half the template's
    assert row.content_bytes.tolist() == [7]


def test_a_template_that_trims_gives_offsets_in_the_content_as_given() -> None:
    tokenizer = _byte_level(CHATML.replace("m['content']", "m['content'] | trim"))
    row = label_row(tokenizer, _conversation("q", "\u3000 yes \n", "r", "no"), max_length=100)
    assert row is not None
    first = row.turn == 0
    assert row.start[first][0] == 4  # an ideographic space is three bytes
    assert row.end[first].tolist()[-2:] == [7, 9]
    assert row.content_bytes.tolist() == [9, 2]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "is missing"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "changes what was said"),
        (
            CHATML.replace("m['content']", "('' if m['role'] == 'assistant' and not loop.last else m['content'])"),
            "changes",
        ),
        (
            CHATML.replace("{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", ""),
            "generation prompt",
        ),
        (CHATML.replace("<|im_end|>\n", "\n"), "same token"),
        ("{% if %}", "cannot render"),
    ],
)
def test_templates_that_cannot_be_labelled_are_refused_with_the_way_out(template: str | None, message: str) -> None:
    with pytest.raises(Refusal, match=f"{message}.*chat_template in conf/model"):
        label_row(_byte_level(template), _conversation("q", "hello", "r", "again"), max_length=100)


# ------------------------------------------------------------------------------------------------ real tokenizers
def _data(*parts: str) -> Path:
    root = os.environ.get("FUSECHAT_LAB_DATA")
    if not root:
        pytest.skip("FUSECHAT_LAB_DATA is not set: point it to the data directory to run this test")
    path = Path(root, *parts)
    if not path.exists():
        pytest.skip(f"{path} is not there: fetch the data to run this test")
    return path


@functools.cache
def _real(name: str) -> Any:
    return AutoTokenizer.from_pretrained(_data("tokenizers", name))


REAL = ("internlm2", "mistral-v1", "phi3", "qwen2")


@pytest.mark.parametrize("name", REAL)
def test_published_answers_are_tiled_exactly_by_real_tokenizers(name: str) -> None:
    tokenizer = _real(name)
    path = _data("alpaca_eval", "outputs", "OpenHermes-2.5-Mistral-7B.json.gz")
    outputs = [row for row in json.loads(gzip.decompress(path.read_bytes())) if row["output"].strip()][:40]
    conversations = [_conversation(row["instruction"], row["output"], name=str(i)) for i, row in enumerate(outputs)]
    for conversation, row in zip(conversations, label_rows(tokenizer, conversations, max_length=4096), strict=True):
        assert row is not None
        _check_spelling(tokenizer, conversation, row)


@pytest.mark.parametrize(
    ("name", "piece"),
    [("internlm2", "<|im_end|>"), ("mistral-v1", "</s>"), ("phi3", "<|end|>"), ("qwen2", "<|im_end|>")],
)
def test_end_of_turn_of_real_templates(name: str, piece: str) -> None:
    tokenizer = _real(name)
    assert tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)) == piece


@pytest.mark.parametrize("name", REAL)
def test_two_turns_of_emoji_and_east_asian_text_under_real_tokenizers(name: str) -> None:
    tokenizer = _real(name)
    conversation = _conversation("Grüß mich", "Grüße, 日本語 😀👩‍💻!\n", "noch einmal", "1 再见 ½")
    row = label_row(tokenizer, conversation, max_length=4096)
    assert row is not None
    _check_spelling(tokenizer, conversation, row)


def test_a_header_token_that_swallows_whitespace_takes_it_from_the_content() -> None:
    tokenizer = _real("phi3")  # <|assistant|> has rstrip
    row = label_row(tokenizer, _conversation("q", "  Hi"), max_length=100)
    assert row is not None
    assert _spans(tokenizer, row) == [("Hi", 0, 2, 4), ("<|end|>", 0, 4, 4)]
