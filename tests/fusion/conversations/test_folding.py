"""Turns that a template refuses or leaves out, and thinking that it writes where its prompt does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.template import LabelledRow, label_rows
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.configure import Refusal
from fusion.runtime.templates.folding import readings
from fusion.runtime.templates.pinned import pinned

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INSTRUCT = (  # asks for no generation prompt, as Mistral's
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def label_row(tokenizer: Any, conversation: Conversation, *, max_length: int) -> LabelledRow | None:
    return label_rows(tokenizer, [conversation], max_length=max_length)[0]


def _byte_level(template: str) -> PreTrainedTokenizerFast:
    pieces = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIALS)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def _conversation(*contents: str) -> Conversation:
    return _said(*((("user", "assistant")[i % 2], text) for i, text in enumerate(contents)))


def _said(*turns: tuple[str, str]) -> Conversation:
    return Conversation(id="c", messages=tuple(Message(role=role, content=text) for role, text in turns))  # type: ignore[arg-type]


NO_SYSTEM = {
    "refused": INSTRUCT,
    "left out": CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"),
}


@pytest.mark.parametrize("template", NO_SYSTEM.values(), ids=NO_SYSTEM)
def test_a_system_turn_that_the_template_does_not_take_begins_the_first_user_s(template: str) -> None:
    tokenizer = _byte_level(template)
    rest = [("assistant", "yes"), ("user", "sure?"), ("assistant", "no")]
    with pytest.warns(UserWarning, match="1 of 1 conversations have a system or tool turn.*in a user's turn"):
        row = label_row(tokenizer, _said(("system", "Be brief."), ("user", "Well?"), *rest), max_length=500)
    same = label_row(tokenizer, _said(("user", "Be brief.\n\nWell?"), *rest), max_length=500)
    assert row is not None and same is not None
    for name in ("input_ids", "positions", "turn", "start", "end", "content_bytes"):
        np.testing.assert_array_equal(getattr(row, name), getattr(same, name))


@pytest.mark.parametrize(("system", "user"), [("Hi", "Hi there"), (".", "Well."), ("Well?", "Well?")])
def test_a_system_turn_left_out_is_noticed_though_others_say_the_same(system: str, user: str) -> None:
    tokenizer = _byte_level(NO_SYSTEM["left out"])
    with pytest.warns(UserWarning, match="1 of 1 conversations have a system"):
        row = label_row(tokenizer, _said(("system", system), ("user", user), ("assistant", user)), max_length=500)
    assert row is not None
    assert f"{system}\n\n{user}<|im_end|>" in tokenizer.decode(row.input_ids)


def test_a_system_turn_that_wanders_to_the_last_question_stays_with_the_first() -> None:
    """As in later templates of Mistral's, under which no text of several turns holds the prompt of each."""
    wandering = (
        "{{ bos_token }}{% set said = messages | rejectattr('role', 'equalto', 'system') | list %}"
        "{% set asked = said | selectattr('role', 'equalto', 'user') | list %}"
        "{% for m in said %}{% if m['role'] == 'user' %}{{ '[INST] ' }}"
        "{{ messages[0]['content'] + '\n\n' if m == asked[-1] and messages[0]['role'] == 'system' }}"
        "{{ m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = _byte_level(wandering)
    one = [("system", "Be brief."), ("user", "Well?"), ("assistant", "yes")]
    assert label_row(tokenizer, _said(*one), max_length=500) is not None  # where there is one question, it is there
    with pytest.warns(UserWarning, match="1 of 1 conversations have a system"):
        row = label_row(tokenizer, _said(*one, ("user", "sure?"), ("assistant", "no")), max_length=500)
    assert row is not None
    text = tokenizer.decode(row.input_ids)
    assert text == "<s>[INST] Be brief.\n\nWell? [/INST]yes</s>[INST] sure? [/INST]no</s>"


@pytest.mark.parametrize(
    ("said", "whose"),
    [
        ("m['content'][:3] if m['role'] == 'user' else m['content']", "user"),
        ("m['content'] | replace('Well?', '') ", "user"),
        ("m['content'] if m['role'] == 'assistant' else ''", "user"),
    ],
)
def test_a_template_that_leaves_out_what_a_user_says_is_refused(said: str, whose: str) -> None:
    tokenizer = _byte_level(CHATML.replace("m['content']", f"({said})"))
    with pytest.raises(Refusal, match=f"leaves out or changes a turn of the {whose}'s.*answer 1.*chat_template"):
        label_row(tokenizer, _conversation("Well?", "yes"), max_length=500)


@pytest.mark.parametrize("turns", [1, 2])
def test_thoughts_that_a_template_takes_out_are_named_as_the_reason(turns: int) -> None:
    dropped = CHATML.replace("m['content']", "(m['content'].split('</think>')[-1].lstrip('\n'))")
    said = ["q", "<think>\nhm\n</think>\n\nyes"] * turns
    with pytest.raises(Refusal, match="drops thinking.*data.thinking=remove"):
        label_row(_byte_level(dropped), _conversation(*said), max_length=500)


def test_a_tool_s_turn_is_its_own_or_a_user_s() -> None:
    turns = [("user", "2+2?"), ("assistant", "call"), ("tool", "4"), ("tool", "four"), ("assistant", "It is 4.")]
    own = label_row(_byte_level(CHATML), _said(*turns), max_length=500)
    assert own is not None
    assert b"<|im_start|>tool\nfour" in _byte_level(CHATML).decode(own.input_ids).encode()
    with pytest.warns(UserWarning, match="tool turn"):
        row = label_row(_byte_level(INSTRUCT), _said(*turns), max_length=500)
    same = label_row(
        _byte_level(INSTRUCT), _said(*turns[:2], ("user", "4\n\nfour"), ("assistant", "It is 4.")), max_length=500
    )
    assert row is not None and same is not None
    np.testing.assert_array_equal(row.input_ids, same.input_ids)
    np.testing.assert_array_equal(row.positions, same.positions)
    assert row.turn.tolist()[-1] == 1


def test_what_no_reading_helps_is_refused_by_conversation_with_the_template_s_first_words() -> None:
    template = INSTRUCT.replace("{{ '[INST] '", "{{ raise_exception('no digits') if '1' in m['content'] }}{{ '[INST] '")
    with pytest.raises(Refusal, match="'c'.*only user and assistant"):
        label_row(_byte_level(template), _said(("system", "s"), ("user", "1"), ("assistant", "a")), max_length=100)


THINKING = (  # as reasoning models' own: thoughts are dropped from earlier answers, and the last gets an empty one
    "{% for m in messages %}{% set text = m['content'].split('</think>')[-1].lstrip('\n') %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ '<think>\n\n</think>\n\n' if m['role'] == 'assistant' and loop.last else '' }}{{ text }}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def test_a_template_that_writes_thinking_of_its_own_is_refused_with_the_settings_that_help() -> None:
    one, two = _conversation("q", "yes"), _conversation("q", "yes", "r", "no")
    with pytest.raises(Refusal, match="enable_thinking: false"):
        label_row(_byte_level(THINKING), one, max_length=100)
    quiet = _byte_level(pinned(THINKING, settings={"enable_thinking": False}, date="2024-07-26"))
    row = label_row(quiet, one, max_length=100)
    assert row is not None
    assert b"".join(token_bytes(quiet)[i] or b"" for i in row.input_ids[row.positions]) == b"yes"
    with pytest.raises(Refusal, match="chat_template: qwen3"):
        label_row(quiet, two, max_length=100)


def test_turns_that_need_no_other_reading_have_one() -> None:
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert list(readings(plain)) == [plain]
    system = [{"role": "system", "content": "s"}, *plain]
    assert list(readings(system)) == [system, [{"role": "user", "content": "s\n\nq"}, plain[1]]]
