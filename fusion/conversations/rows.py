"""A row of data as people have it, as turns.

The forms, each recognised by its keys (a key whose value is null or NaN counts as absent, as tables fill columns):

    messages                        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    conversations, conversation     the same, or ShareGPT's [{"from": "human", "value": "Hi"}, {"from": "gpt", ...}]
    prompt, completion              two texts, or two lists of messages
    instruction, input, output      Alpaca's, where input may be empty; and what `_PAIRS` lists besides

Turns may be JSON in a text, or columns (one list of roles, one of contents), as tables hold them.  A `system` beside
them begins the dialogue, and `history` holds Alpaca's turns before the instruction.  A content is text, or a list of
parts that are all text.  What the assistant thinks and which tools it calls may stand
in fields of their own; both become text of its turn, in the spelling that Qwen, DeepSeek and Hermes share, since one
text is what two models can be compared on:

    <think>\n...\n</think>\n\n          from `reasoning_content` (or `reasoning`, `thinking`), in front of the content
    <tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>         from `tool_calls`, behind it
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fusion.runtime.reading import decoded

Thinking = Literal["keep", "remove"]

_ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
_CALLERS = ("function_call", "tool_call")  # whose content is the call
# What is asked, what is put behind it after an empty line where it is there, and what is answered.
_PAIRS: Sequence[tuple[str, str | None, str]] = (
    ("prompt", None, "completion"),
    ("prompt", None, "response"),
    ("instruction", "input", "output"),
    ("instruction", "context", "response"),
    ("question", None, "answer"),
)
_LISTS = ("messages", "conversations", "conversation")
_SYSTEMS = ("system", "system_prompt")
_MEDIA = ("images", "image", "videos", "audios", "audio")
# Keys of rows that hold no dialogue yet, and what makes one of them.
_WAYS_OUT: Mapping[str, str] = {
    "chosen": "to learn the chosen answers, write each row as 'messages', or as 'prompt' and 'completion'",
    "text": "a text with its turns in it was written for one model's template: say whose each turn is, as 'messages'",
}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "input_text", "output_text")
_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a row; the role is system, user, assistant or tool, or what the row calls it if that is none of
    them."""

    role: str
    content: str


def turns_of(row: object, *, thinking: Thinking) -> list[Turn]:
    """The turns of a row in whichever form.  Raises ValueError that says what of the row is not as expected."""
    if not isinstance(row, Mapping):
        raise ValueError(f"the row is a {type(row).__name__}: expected an object with 'messages' or 'conversations'")
    given = {key: value for key, value in row.items() if not _absent(value)}
    _refuse_unlearnable(given)
    for key in _LISTS:
        if key in given:
            said = _unpacked(given[key])
            turns = _leading_answer_dropped(_listed(said, key, thinking), said)
            return turns if turns and turns[0].role == "system" else [*_system(given), *turns]
    for asked, more, answered in _PAIRS:
        if asked in given and answered in given:
            return _paired(given, asked, more, answered, thinking)
    forms = [*_LISTS, *(f"{asked} with {answered}" for asked, _, answered in _PAIRS)]
    way_out = next((f". {said[0].upper()}{said[1:]}" for key, said in _WAYS_OUT.items() if key in given), "")
    raise ValueError(
        f"neither 'messages' nor 'conversations' is among its keys ({shortened(', '.join(map(str, given))) or 'none'}),"
        f" nor a pair of question and answer: known are {', '.join(forms)}{way_out}"
    )


def shortened(text: str, *, longest: int = 200) -> str:
    """A text of the data for a message: not long."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _refuse_unlearnable(row: Mapping[str, object]) -> None:
    """Raise ValueError for a row that is more than its text, or whose answer is marked as a bad one."""
    media = next((key for key in _MEDIA if row.get(key)), None)
    if media is not None:
        raise ValueError(f"the row has {media}, and only text can be read: take such rows out")
    if row.get("label") is False and "completion" in row:
        raise ValueError("its answer is marked as not wanted (label is false), and every answer is learned")


def _unpacked(turns: object) -> object:
    """A list of turns out of what tables make of it: JSON in a text, or columns instead of rows."""
    if isinstance(turns, str):
        try:
            found = decoded(turns)
        except ValueError:
            return turns
        turns = found if isinstance(found, (list, Mapping)) else turns
    columns = list(turns.values()) if isinstance(turns, Mapping) else []
    if not isinstance(turns, Mapping) or not all(isinstance(column, list) for column in columns):
        return turns
    if len({len(column) for column in columns}) != 1:
        return turns
    return [dict(zip(turns, values, strict=True)) for values in zip(*columns, strict=True)]


def _system(row: Mapping[str, object]) -> list[Turn]:
    said = next((row[key] for key in _SYSTEMS if row.get(key)), None)
    return [] if said is None else [Turn(role="system", content=_text(said, "'system'"))]


def _leading_answer_dropped(turns: list[Turn], said: object) -> list[Turn]:
    """ShareGPT rows that open with a gpt turn lose it, as in the released code."""
    sharegpt = isinstance(said, list) and said and isinstance(said[0], Mapping) and "from" in said[0]
    return turns[1:] if sharegpt and turns[0].role == "assistant" else turns


def _paired(row: Mapping[str, object], asked: str, more: str | None, answered: str, thinking: Thinking) -> list[Turn]:
    turns = [*_system(row), *_history(row)]
    for key, role in ((asked, "user"), (answered, "assistant")):
        said = row[key]
        if isinstance(said, list):  # messages, or parts of one
            conversational = all(isinstance(turn, Mapping) and {"role", "from"} & turn.keys() for turn in said)
            if conversational:
                turns += _listed(said, key, thinking)
                continue
        text = _text(said, f"'{key}'")
        if key == asked and more is not None and row.get(more):
            text = f"{text}\n\n{_text(row[more], repr(more))}"
        turns.append(Turn(role=role, content=_thought_out(text, role, thinking)))
    return turns


def _history(row: Mapping[str, object]) -> list[Turn]:
    """Alpaca's turns before the instruction: pairs of a question and its answer."""
    history = _unpacked(row.get("history") or [])
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise ValueError("'history' is no list of pairs, each a question and its answer")
    return [
        Turn(role=role, content=_text(said, "'history'"))
        for pair in history
        for role, said in zip(("user", "assistant"), pair, strict=True)
    ]


def _listed(turns: object, key: str, thinking: Thinking) -> list[Turn]:
    if not isinstance(turns, list):
        raise ValueError(f"'{key}' is {type(turns).__name__}: expected a list of turns")
    return [_turn(turn, number, key, thinking) for number, turn in enumerate(turns, start=1)]


def _turn(turn: object, number: int, key: str, thinking: Thinking) -> Turn:
    if isinstance(turn, Mapping) and turn.get("from") is not None:
        speaker, said = "from", "value"
    else:
        speaker, said = "role", "content"
    called = isinstance(turn, Mapping) and bool(turn.get("tool_calls"))
    if isinstance(turn, Mapping) and (turn.get("weight") in (0, "0") or turn.get("train") is False):
        raise ValueError(f"turn {number} of '{key}' is marked as not to be learned, and every answer is learned")
    if not isinstance(turn, Mapping) or speaker not in turn or not (said in turn or called):
        raise ValueError(f"turn {number} of '{key}' is not an object with '{speaker}' and '{said}'")
    name = turn[speaker]
    caller = name.lower() if isinstance(name, str) else ""
    if speaker == "from" and caller not in _ROLES:
        raise ValueError(f"turn {number} is from {shortened(repr(name))}: expected {', '.join(_ROLES)}")
    if not isinstance(name, str):
        raise ValueError(f"turn {number} of '{key}' has the role {shortened(repr(name))}: expected text")
    role = _ROLES.get(caller, name)
    content = turn.get(said)
    text = "" if content is None and called else _text(content, f"the content of a {shortened(role)} turn")
    if caller in _CALLERS:
        text = _call_in_text(text)
    thought = next((turn[field] for field in _THOUGHTS if isinstance(turn.get(field), str) and turn[field].strip()), "")
    if role == "assistant":
        if thought:
            text = f"<think>\n{thought.strip()}\n</think>\n\n{text}"
        text = _thought_out(text, role, thinking)
        if called:
            text = "\n".join(filter(None, [text, *map(_call, _calls(turn["tool_calls"], number))]))
    return Turn(role=role, content=text)


def _thought_out(text: str, role: str, thinking: Thinking) -> str:
    """The text, without the thinking at its beginning where that is to be removed."""
    if role != "assistant" or thinking == "keep":
        return text
    found = _THOUGHT.match(text)
    return text[found.end() :] if found else text


def _text(content: object, what: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"{what} is {type(content).__name__}: expected text, or a list of parts that are text")
    if len(content) > 1 and all(isinstance(part, str) for part in content):
        raise ValueError(f"{what} is a list of {len(content)} texts: expected one")
    return "".join(_part(part, what) for part in content)


def _part(part: object, what: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind in _TEXT_PARTS and isinstance(text, str):
        return text
    raise ValueError(f"{what} has a part of the type {kind!r}: only parts of text, with 'text', can be read")


def _calls(calls: object, number: int) -> list[Mapping[str, object]]:
    calls = _unpacked(calls)
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise ValueError(f"the tool_calls of turn {number} are no list of objects")
    return calls


def _call(call: Mapping[str, object]) -> str:
    function = call.get("function") if isinstance(call.get("function"), Mapping) else call
    assert isinstance(function, Mapping)
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str):
        raise ValueError("a tool call has no name: expected {'name': ..., 'arguments': ...}")
    if isinstance(arguments, str):  # JSON as text, as OpenAI's interface has it
        try:
            arguments = decoded(arguments)
        except ValueError:
            pass  # what the model wrote is what it wrote
    said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{said}\n</tool_call>"


def _call_in_text(text: str) -> str:
    """A turn that is a call, in the spelling of one; a text that is none, or is spelled so already, as it is."""
    try:
        call = decoded(text)
    except ValueError:
        return text
    calls = call if isinstance(call, list) else [call]
    if not calls or not all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in calls):
        return text
    return "\n".join(map(_call, calls))
