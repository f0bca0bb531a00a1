"""Rows as people have them, and what of a row is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from fusion.conversations.rows import Thinking, Turn, turns_of


def _turns(row: Any, thinking: Thinking = "keep") -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in turns_of(row, thinking=thinking)]


ONE = [("user", "Hi"), ("assistant", "Hello")]
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES},
        {"conversation": MESSAGES},
        {"conversations": MESSAGES},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
        {"prompt": "Hi", "response": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "output": "Hello"},
        {"instruction": "Hi", "input": None, "output": "Hello", "messages": None, "text": "### Instruction: Hi"},
        {"instruction": "Hi", "context": "", "response": "Hello", "category": "chat"},
        {"question": "Hi", "answer": "Hello"},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                MESSAGES[1],
            ]
        },
        {"messages": [MESSAGES[0], {"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}]},
        {
            "messages": [
                MESSAGES[0],
                {"role": "assistant", "content": "Hello", "tool_calls": None, "reasoning_content": ""},
            ]
        },
        {"prompt": [{"type": "text", "text": "Hi"}], "completion": "Hello"},
        {"messages": json.dumps(MESSAGES)},
        {"messages": {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}},
        {"conversations": json.dumps({"from": ["human", "gpt"], "value": ["Hi", "Hello"]})},
        {"conversations": [{"from": "Human", "value": "Hi"}, {"from": "GPT", "value": "Hello"}]},
        {"messages": [{"role": "USER", "content": "Hi"}, {"role": "Assistant", "content": "Hello"}]},
        {"instruction": "Hi", "input": math.nan, "output": "Hello", "system": math.nan, "history": []},
        {"prompt": "Hi", "completion": "Hello", "label": True},
        {"messages": MESSAGES, "images": [], "system": ""},
    ],
    ids=lambda row: " ".join(row),
)
def test_one_dialogue_in_every_form(row: Any) -> None:
    assert _turns(row) == ONE


def test_an_alpaca_row_s_input_follows_its_instruction() -> None:
    row = {"system": "Be kind.", "instruction": "Add.", "input": "1, 2", "output": "3"}
    assert _turns(row) == [("system", "Be kind."), ("user", "Add.\n\n1, 2"), ("assistant", "3")]
    assert _turns({"instruction": "Say who.", "context": "It was Ada.", "response": "Ada"})[0][1] == (
        "Say who.\n\nIt was Ada."
    )


@pytest.mark.parametrize("key", ["system", "system_prompt"])
def test_a_system_text_beside_the_turns_begins_them_unless_they_have_one(key: str) -> None:
    begun = [("system", "Be kind."), *ONE]
    sharegpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    for row in ({"messages": MESSAGES}, {"conversations": sharegpt}, {"question": "Hi", "answer": "Hello"}):
        assert _turns({key: "Be kind.", **row}) == begun
    own = [{"role": "system", "content": "Be kind."}, *MESSAGES]
    assert _turns({key: "Be brief.", "messages": own}) == begun


def test_an_alpaca_row_s_history_comes_before_its_instruction() -> None:
    row = {"system": "s", "instruction": "And 3?", "output": "6", "history": [["Double 1.", "2"], ["And 2?", "4"]]}
    said = ["s", "Double 1.", "2", "And 2?", "4", "And 3?", "6"]
    assert [content for _, content in _turns(row)] == said
    assert [role for role, _ in _turns(row)][:4] == ["system", "user", "assistant", "user"]


def test_a_turn_that_is_a_call_is_written_as_one() -> None:
    calls = {
        '{"name": "add", "arguments": {"a": 2}}': '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>',
        '[{"name": "f", "arguments": "{}"}]': '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        "<tool_call>add(2)</tool_call>": "<tool_call>add(2)</tool_call>",
        '{"a": 2}': '{"a": 2}',
    }
    for said, expected in calls.items():
        row = [{"from": "function_call", "value": said}, {"from": "observation", "value": "4"}]
        assert _turns({"conversations": [{"from": "human", "value": "q"}, *row]})[1:] == [
            ("assistant", expected),
            ("tool", "4"),
        ]
    long = {"role": "assistant", "tool_calls": json.dumps([{"name": "f", "arguments": "9" * 5000}])}
    assert "9" * 5000 in _turns({"messages": [MESSAGES[0], long]})[1][1]


def test_a_prompt_of_several_turns_keeps_them() -> None:
    asked = [{"role": "system", "content": "s"}, *MESSAGES, {"role": "user", "content": "Bye"}]
    answered = [{"role": "assistant", "content": "Go"}]
    expected = [("system", "s"), *ONE, ("user", "Bye"), ("assistant", "Go")]
    assert _turns({"prompt": asked, "completion": answered}) == expected


def test_a_leading_answer_is_dropped_of_sharegpt_rows_alone() -> None:
    sharegpt = [
        {"from": "gpt", "value": "Welcome"},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
    ]
    assert _turns({"conversations": sharegpt}) == ONE
    assert _turns({"messages": [{"role": "assistant", "content": "Welcome"}, *MESSAGES]})[0] == ("assistant", "Welcome")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_kept_in_front_of_the_answer_or_removed(field: str) -> None:
    apart = {"messages": [MESSAGES[0], {"role": "assistant", "content": "Hello", field: "Greet.\n"}]}
    within = {"prompt": "Hi", "completion": "\n<think>\nGreet.\n</think>\n\nHello <think>not this</think>"}
    assert _turns(apart) == [ONE[0], ("assistant", "<think>\nGreet.\n</think>\n\nHello")]
    assert _turns(apart, "remove") == ONE
    assert _turns(within)[1][1] == within["completion"]
    assert _turns(within, "remove") == [ONE[0], ("assistant", "Hello <think>not this</think>")]
    asked = {"prompt": "<think>a tag?</think>Hi", "completion": "Hello"}
    assert _turns(asked, "remove")[0] == ("user", "<think>a tag?</think>Hi")


def test_tool_calls_and_what_came_back_are_text() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": "ü"}'}}
    row = {
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "4", "tool_call_id": "x"},
            {"role": "assistant", "content": "Twice.", "tool_calls": [{"name": "add", "arguments": {"a": 1}}, call]},
        ]
    }
    said = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": "ü"}}\n</tool_call>'
    assert _turns(row) == [
        ("user", "2+2?"),
        ("assistant", said),
        ("tool", "4"),
        ("assistant", f'Twice.\n<tool_call>\n{{"name": "add", "arguments": {{"a": 1}}}}\n</tool_call>\n{said}'),
    ]
    assert _turns({"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "4"}]})[1] == (
        "tool",
        "4",
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("text", "the row is a str"),
        ({"text": "Hi"}, r"among its keys \(text\).*instruction with output"),
        ({"prompt": "Hi"}, r"among its keys \(prompt\).*prompt with completion"),
        ({"messages": None}, r"among its keys \(none\)"),
        ({"prompt": "Hi", "completion": 3}, "'completion' is int: expected text"),
        ({"instruction": "Hi", "input": 3, "output": "x"}, "'input' is int"),
        ({"messages": [{"role": 3, "content": "x"}]}, "role 3"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "user turn is dict: expected text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "type 'image_url'"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "type 'text'"),
        ({"messages": [{"role": "user", "content": [3]}]}, "type 'int'"),
        ({"messages": [{"role": "assistant", "tool_calls": "add"}]}, "tool_calls of turn 1"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]}, "no name"),
        ({"conversations": [{"from": ["x"], "value": "Hi"}]}, "from"),
        ({"conversations": [{"from": "x" * 9999, "value": "Hi"}]}, r"from 'x{199}\.\.\."),
        ({"x" * 9999: "Hi"}, r"\(x{200}\.\.\.\)"),
        ({"messages": "user: Hi"}, "'messages' is str"),
        ({"messages": "3"}, "'messages' is str"),
        ({"messages": "[" * 10**5}, "'messages' is str"),
        ({"messages": {"role": ["user"], "content": []}}, "'messages' is dict"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, "To learn the chosen answers, write"),
        ({"text": "### Human: Hi"}, "say whose each turn is"),
        ({"prompt": "Hi", "completion": "No", "label": False}, "marked as not wanted"),
        ({"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0}]}, "turn 2 of 'messages' is marked"),
        ({"conversations": [{"from": "gpt", "value": "x", "train": False}]}, "marked as not to be learned"),
        ({"messages": MESSAGES, "images": ["a.png"]}, "the row has images"),
        ({"prompt": "Hi", "completion": ["one", "two"]}, "'completion' is a list of 2 texts"),
        ({"instruction": "Hi", "output": "x", "history": ["Hi", "x"]}, "no list of pairs"),
    ],
)
def test_what_is_no_dialogue_is_told_by_what_it_is(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _turns(row)


def test_a_turn_says_whose_it_is() -> None:
    assert turns_of({"messages": [{"role": "developer", "content": "d"}]}, thinking="keep") == [
        Turn(role="system", content="d")
    ]
