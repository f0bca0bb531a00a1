"""The formats in conf/template: what they write, and that answers can be learned under each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.template import end_of_turn_id, label_rows
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.templates.pinned import pinned
from fusion.runtime.templates.rendering import rendered

CONF = Path(__file__).parents[3] / "conf" / "template"
ENDS = {
    "chatml": "<|im_end|>",
    "gemma": "<end_of_turn>",
    "llama3": "<|eot_id|>",
    "llama3.1": "<|eot_id|>",
    "mistral": "</s>",
    "qwen3": "<|im_end|>",
}
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<start_of_turn>", "<|start_header_id|>", "<|end_header_id|>"]
SYSTEM = ("system", "Be brief.")
TURNS = [("user", "Hi"), ("assistant", "Hello you"), ("user", " Bye "), ("assistant", "Go\n")]
TOOLS = [("user", "2+2?"), ("assistant", "sum"), ("tool", "4"), ("tool", "iv"), ("assistant", "four")]


def _template(name: str, **settings: Any) -> str:
    return pinned((CONF / f"{name}.jinja").read_text(), settings=settings, date="2024-07-26")


def _text(template: str, turns: list[tuple[str, str]], *, prompt: bool = False) -> str:
    said = [{"role": role, "content": content} for role, content in turns]
    given = {"bos_token": "<s>", "eos_token": "</s>"}
    if not prompt:
        return rendered(template, said, given=given).text
    found = rendered(template, [*said, {"role": "assistant", "content": ""}], given=given)
    return found.text[: found.prompts[-1].shared] + found.prompts[-1].rest


def _im(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _header(role: str, content: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"


DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
WRITTEN = {
    "chatml": "".join(_im(*turn) for turn in [SYSTEM, *TURNS]),
    "qwen3": "".join(_im(*turn) for turn in [SYSTEM, *TURNS]),
    "llama3": "<s>" + "".join(_header(role, content.strip()) for role, content in [SYSTEM, *TURNS]),
    "llama3.1": "<s>"
    + _header("system", DATES + "Be brief.")
    + "".join(_header(role, content.strip()) for role, content in TURNS),
    "gemma": "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello you<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\nGo<end_of_turn>\n",
    "mistral": "<s>[INST] Be brief.\n\nHi [/INST] Hello you</s>[INST]  Bye  [/INST] Go\n</s>",
}
PROMPTS = {
    "chatml": "<|im_start|>assistant\n",
    "qwen3": "<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama3.1": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>model\n",
    "mistral": "[/INST]",
}


def test_every_format_is_tested_here() -> None:
    others = {"openchat_3.5", "openchat_3.5_im_end"}  # tests/fusion/test_models.py
    assert {path.stem for path in CONF.glob("*.jinja")} - others == ENDS.keys() == WRITTEN.keys() == PROMPTS.keys()


@pytest.mark.parametrize("name", ENDS)
def test_a_conversation_is_written_in_the_published_format(name: str) -> None:
    assert _text(_template(name), [SYSTEM, *TURNS]) == WRITTEN[name]
    prompt = _text(_template(name), [SYSTEM, *TURNS[:3]], prompt=True)
    assert prompt.endswith(PROMPTS[name])
    assert WRITTEN[name].startswith(prompt)


def test_a_format_without_a_system_turn_begins_with_the_user() -> None:
    assert _text(_template("gemma"), TURNS[:2]).startswith("<s><start_of_turn>user\nHi<end_of_turn>")
    assert _text(_template("mistral"), TURNS[:2]) == "<s>[INST] Hi [/INST] Hello you</s>"
    assert _text(_template("llama3.1"), TURNS[:1]) == "<s>" + _header("system", DATES) + _header("user", "Hi")
    assert _text(_template("llama3"), TURNS[:1]) == "<s>" + _header("user", "Hi")


def test_the_date_is_the_pinned_one_or_as_it_is_given() -> None:
    assert "Today Date: 1 April\n" in _text(_template("llama3.1", date_string="1 April"), TURNS[:1])
    later = pinned((CONF / "llama3.1.jinja").read_text(), settings={}, date="2025-12-01")
    assert "Today Date: 01 Dec 2025\n" in _text(later, TURNS[:1])


def test_without_thinking_every_answer_stands_behind_an_empty_thought() -> None:
    template, thought = _template("qwen3", enable_thinking=False), "<think>\n\n</think>\n\n"
    assert _text(template, TURNS[:1], prompt=True) == _im("user", "Hi") + "<|im_start|>assistant\n" + thought
    answered = "".join(_im(role, thought * (role == "assistant") + content) for role, content in TURNS)
    assert _text(template, TURNS) == answered
    assert _text(_template("qwen3", enable_thinking=True), TURNS) == _text(_template("qwen3"), TURNS)


def test_what_tools_returned_is_written_as_each_format_has_it() -> None:
    returned = (
        "<|im_start|>user\n<tool_response>\n4\n</tool_response>\n<tool_response>\niv\n</tool_response><|im_end|>\n"
    )
    assert _text(_template("qwen3"), TOOLS).split(_im("assistant", "sum"))[1] == returned + _im("assistant", "four")
    assert _im("tool", "4") + _im("tool", "iv") in _text(_template("chatml"), TOOLS)
    assert _header("ipython", "4") + _header("ipython", "iv") in _text(_template("llama3"), TOOLS)


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(dict.fromkeys([*SPECIALS, *ENDS.values()]))
    backend.train_from_iterator(
        [text for _, text in TURNS],
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("settings", [{}, {"enable_thinking": False}], ids=["plain", "without thinking"])
@pytest.mark.parametrize("turns", [TURNS, [SYSTEM, *TURNS], TOOLS], ids=["two turns", "system", "tools"])
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.filterwarnings("ignore:1 of 1 conversations have a system or tool turn")
def test_every_answer_can_be_learned_under_every_format(
    name: str, turns: list[tuple[str, str]], settings: dict[str, Any]
) -> None:
    tokenizer = _tokenizer(_template(name, **settings))
    assert tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)) == ENDS[name]
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    (row,) = label_rows(tokenizer, [Conversation(id="c", messages=messages)], max_length=1000)
    assert row is not None
    spelled = token_bytes(tokenizer)
    answers = [content for role, content in turns if role == "assistant"]
    for turn, answer in enumerate(answers):
        ids = row.input_ids[row.positions[row.turn == turn]]
        learned = b"".join(spelled[i] or b"" for i in ids.tolist()).decode()
        assert learned.strip() == answer.strip()
        assert ids[-1] == end_of_turn_id(tokenizer)
    assert int(np.sum(row.input_ids[row.positions] == end_of_turn_id(tokenizer))) == len(answers)
