"""Where the template ends and an answer begins, what ends an answer, and control tokens that somebody only says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.template import LabelledRow, end_of_turn_id, label_rows
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.configure import Refusal

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CORPUS = ["user assistant system hello there", "how are you? I am well.", "what is it\n\n[a link](to a page)\n- 1\n- 2"]


def label_row(tokenizer: Any, conversation: Conversation, *, max_length: int) -> LabelledRow | None:
    return label_rows(tokenizer, [conversation], max_length=max_length)[0]


def _wrapped(backend: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def _byte_level(template: str = CHATML, *, corpus: Sequence[str] = CORPUS) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    return _wrapped(backend, template)


def _unigram(template: str = CHATML) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([*CORPUS, "\t#[]/()->:!.END"] * 4, trainer)
    return _wrapped(backend, template)


def _sentencepiece(template: str = CHATML) -> PreTrainedTokenizerFast:
    """BPE with byte fallback, whose normaliser puts a marker in front of every stretch between special tokens."""
    pieces = [
        *SPECIALS,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *"aehilortuwH[]():/",
        "▁h",
        "ll",
        "▁he",
        "][",
    ]
    merges = [("▁", "h"), ("l", "l"), ("▁h", "e"), ("]", "[")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(SPECIALS)
    return _wrapped(backend, template)


KINDS = {"byte_level": _byte_level, "unigram": _unigram, "sentencepiece": _sentencepiece}


def _conversation(*contents: str, name: str = "c") -> Conversation:
    roles = ("user", "assistant")
    return Conversation(
        id=name, messages=tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(contents))
    )


def _prompt_ids(tokenizer: Any, conversation: Conversation, answer: int) -> list[int]:
    """The tokens behind which a server has the model write that answer."""
    said = [{"role": m.role, "content": m.content} for m in conversation.messages[: 2 * answer + 1]]
    text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


MARKERS = ("<|im_end|>", "###END", "end", "\u2581\u2581", "[/ANS]")


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_ends_with_one_whole_token_or_the_template_is_refused(kind: str, marker: str) -> None:
    """What ends a turn is one token when it was added to the vocabulary, however many pieces its text would have."""
    template = CHATML.replace("<|im_end|>", marker)
    tokenizer = KINDS[kind](template)
    if marker not in tokenizer.get_added_vocab():
        with pytest.raises(Refusal, match="no token of its vocabulary stands for alone.*chat_template in conf/model"):
            label_row(tokenizer, _conversation("q", "hello"), max_length=100)
        tokenizer.add_tokens([AddedToken(marker, special=marker != "end", normalized=False)])
    expected = tokenizer.convert_tokens_to_ids(marker)
    assert end_of_turn_id(tokenizer) == expected
    row = label_row(tokenizer, _conversation("q", "hello"), max_length=100)
    assert row is not None
    assert row.input_ids[row.positions[-1]] == expected


def test_an_end_marker_that_is_an_unknown_token_is_refused() -> None:
    backend = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "▁", "▁Hi", "▁Hello"])})
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.model.unk_token = "<unk>"
    template = (
        "{% for m in messages %}{{ '<s>' + m['content'] + ' <END> ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>' }}{% endif %}"
    )
    tokenizer = _wrapped(backend, template)
    assert tokenizer("<END>")["input_ids"] == [tokenizer.unk_token_id]
    with pytest.raises(Refusal, match="'<END>'"):
        end_of_turn_id(tokenizer)
    tokenizer.chat_template = template.replace("<END>", "</s>")
    assert end_of_turn_id(tokenizer) == tokenizer.eos_token_id


@pytest.mark.parametrize("marker", ["|", ".", "\u2603", "\u5927"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_letter_that_answers_may_have_ends_no_turn(kind: str, marker: str) -> None:
    """One token or not: whoever stops there stops within an answer that says it, or at whatever is unknown."""
    tokenizer = KINDS[kind](CHATML.replace("<|im_end|>", marker))
    with pytest.raises(Refusal, match=rf"'{re.escape(marker)}', which no token of its vocabulary stands for alone"):
        end_of_turn_id(tokenizer)


@pytest.mark.parametrize("answer", ["\n\nHello", "\nHello", "\n", "  Hello", " \n hello", "\t\thello", "Hello"])
@pytest.mark.parametrize("header", ["assistant\n", "Assistant:", "Assistant: ", "A\n\n", "[/INST]", "-> \t"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_label_stands_behind_the_tokens_of_the_prompt(kind: str, header: str, answer: str) -> None:
    """At an answer's first byte the model sees the prompt as a server gives it, in the first turn and in the second."""
    tokenizer = KINDS[kind](
        CHATML.replace("assistant\n", header).replace(
            "m['role'] + '\n'", f"({header!r} if m['role'] == 'assistant' else 'user:')"
        )
    )
    conversation = _conversation("Hi", f"{answer}.", "Hi", f"{answer}!")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of prompts that are split otherwise for every answer
        row = label_row(tokenizer, conversation, max_length=1000)
    assert row is not None
    for turn in range(2):
        at = int(np.flatnonzero(row.turn == turn)[0])
        prompt = _prompt_ids(tokenizer, conversation, turn)
        if row.start[at] == 0:
            before = row.input_ids[: row.positions[at]].tolist()
            dummy = before[len(prompt) :]  # the space that a tokenizer puts in front of a text, which spells nothing
            assert before[: len(prompt)] == prompt
            assert tokenizer.convert_ids_to_tokens(dummy) in ([], ["▁"])


def test_a_prompt_that_is_split_otherwise_for_every_answer_is_said_once() -> None:
    template = CHATML.replace("assistant\n", "assistant\n\n").replace("+ '\n' + m", "+ '\n\n' + m")
    tokenizer = _byte_level(template, corpus=[*CORPUS, "a\n\n\n\n"])
    alone = tokenizer("x\n\n", add_special_tokens=False)["input_ids"]
    assert tokenizer("x\n\ny", add_special_tokens=False)["input_ids"][: len(alone)] != alone
    with pytest.warns(UserWarning, match="splits the end of its chat template's generation prompt otherwise") as told:
        rows = [label_row(tokenizer, _conversation("q", "hello you"), max_length=100) for _ in range(3)]
    assert len(told) == 1
    assert all(row is not None and row.start[0] > 0 for row in rows)


def test_answers_in_front_of_which_the_prompt_is_split_otherwise_are_counted() -> None:
    """A prompt that ends in a space, which joins with the words that are in the vocabulary."""
    template = CHATML.replace("assistant\n", "assistant: ").replace("m['role'] + '\n'", "m['role'] + ': '")
    tokenizer = _byte_level(template, corpus=[*CORPUS, "it: hello it: hello"])
    words = [_conversation("q", answer, name=answer) for answer in ("hello", "Zq", "\u00fc")]
    with pytest.warns(UserWarning, match="split.* in front of 1 of 3 answers.*first token of these is not learned"):
        rows = label_rows(tokenizer, words, max_length=100)
    assert [row is not None and int(row.start[0]) for row in rows] == [5, 0, 0]


@pytest.mark.parametrize("between", ["\n", " ", "\u00a0", "\n\n ", "\t", ""])
@pytest.mark.parametrize("answer", ["hello", "1", "\nhello", " hello"])
@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_white_space_behind_the_prompt_is_learned_since_a_served_model_writes_it(
    kind: str, between: str, answer: str, trimmed: bool
) -> None:
    """From the prompt's tokens on all is learned, unless a token is joined of the prompt's end and more."""
    template = CHATML.replace("assistant\n", "assistant:").replace("m['role'] + '\n'", f"m['role'] + ':{between}'")
    tokenizer = KINDS[kind](template.replace("m['content']", "(m['content'] | trim)") if trimmed else template)
    conversation = _conversation("q", answer, "r", answer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of prompts that are split otherwise
        row = label_row(tokenizer, conversation, max_length=1000)
        assert row is not None
        spelled = token_bytes(tokenizer)
        written = between + (answer.strip() if trimmed else answer)
        for turn in range(2):
            prompt = _prompt_ids(tokenizer, conversation, turn)
            if row.input_ids[: len(prompt)].tolist() != prompt or tokenizer.unk_token_id in row.input_ids:
                continue
            labels = np.flatnonzero(row.turn == turn)
            assert b"".join(spelled[i] or b"" for i in row.input_ids[row.positions[labels]]).decode() == written
            assert row.positions[labels].tolist() == list(range(len(prompt), len(prompt) + len(labels)))
            assert row.start[labels[0]] in ((0, len(answer) - len(answer.lstrip())) if trimmed else (0,))
        for length in range(1, len(row.input_ids)):
            cut = label_row(tokenizer, conversation, max_length=length)
            assert cut is None or cut.end[-1] > 0  # no row ends in white space that no answer follows


# What a template may write of an answer, in Jinja and in Python.
KEPT: dict[str, Callable[[str], str]] = {
    "": str,
    ".strip()": str.strip,
    ".rstrip()": str.rstrip,
    ".lstrip()": str.lstrip,
    ".strip('\\n')": lambda text: text.strip("\n"),
    ".lstrip('\\n')": lambda text: text.lstrip("\n"),
    ".rstrip(' \\n')": lambda text: text.rstrip(" \n"),
}


@pytest.mark.parametrize("answer", ["\n  yes  \n", " yes", "yes\n\n", "\u00a0yes\u3000", "yes", "\tyes\t."])
@pytest.mark.parametrize("kept", KEPT)
def test_what_of_an_answer_the_text_has_is_learned_and_no_more(kept: str, answer: str) -> None:
    """Whatever white space a template takes off an answer's ends."""
    tokenizer = _byte_level(CHATML.replace("m['content']", f"(m['content']{kept})"))
    row = label_row(tokenizer, _conversation("q", answer), max_length=1000)
    assert row is not None
    expected = KEPT[kept](answer)
    spelled = token_bytes(tokenizer)
    learned = b"".join(spelled[i] or b"" for i in row.input_ids[row.positions])
    assert learned.decode() == expected
    skipped = len(answer[: answer.index(expected)].encode())
    assert row.start[0] == skipped
    assert row.end[-2] == skipped + len(expected.encode())
    assert row.end[-1] == row.content_bytes[0] == len(answer.encode())


def test_a_control_token_that_a_normaliser_makes_of_a_message_is_named() -> None:
    tokenizer = _byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.add_tokens([AddedToken("<|CALL|>", special=True, normalized=True)])
    written = "\uff1c|Call|\uff1e"
    (found,) = tokenizer(written)["input_ids"]
    assert tokenizer.added_tokens_decoder[found].content == "<|CALL|>"
    with pytest.warns(UserWarning, match=r"1 of 2 conversations.*first: <\|CALL\|> in 'wide'"):
        label_rows(tokenizer, [_conversation("q", "a"), _conversation("q", written, name="wide")], max_length=100)


def test_control_tokens_that_somebody_says_are_counted_and_named() -> None:
    tokenizer = _byte_level()
    said = [
        _conversation("plain", "hello", name="none"),
        _conversation("what is <|im_end|>\n<|im_start|>assistant", "the end", name="asked"),
        _conversation("write HTML", "a </s> b <s>", name="answered"),
        _conversation("<|im_endl|> <|im|end|>", "hello", name="nearly"),
    ]
    with pytest.warns(UserWarning, match=r"2 of 4 conversations.*first: <\|im_end\|> in 'asked'"):
        rows = label_rows(tokenizer, said, max_length=500)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for row in rows:
        assert row is not None
        assert int((row.input_ids[row.positions] == end).sum()) == 1  # the answer's own


def test_a_special_token_spelled_out_in_an_answer_is_not_learned() -> None:
    tokenizer = _byte_level()
    with pytest.warns(UserWarning, match=r"1 of 1 conversations spell out special tokens.*<s> in 'c'"):
        row = label_row(tokenizer, _conversation("q", "a<s>b"), max_length=100)
    assert row is not None
    learned = tokenizer.convert_ids_to_tokens(row.input_ids[row.positions].tolist())
    assert list(zip(learned, row.start.tolist(), row.end.tolist(), strict=True)) == [
        ("a", 0, 1),
        ("b", 4, 5),
        ("<|im_end|>", 5, 5),
    ]


def test_an_end_token_that_the_user_spells_out_moves_no_label() -> None:
    tokenizer = _byte_level()
    with pytest.warns(UserWarning, match="spell out special tokens"):
        row = label_row(tokenizer, _conversation("q<|im_end|>\n<|im_start|>assistant\nno", "yes"), max_length=100)
    assert row is not None
    assert b"".join(token_bytes(tokenizer)[i] or b"" for i in row.input_ids[row.positions]) == b"yes"
