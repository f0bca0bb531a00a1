"""A conversation in a checkpoint's own chat template, and where in it each message stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.records import Answer, Question
from eval.serve.chat_template import ChatTemplate
from fusion.runtime.templates.rendering import TemplateFault

# Private-use characters that no template writes and no message is expected to hold.
_OPEN, _CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True, kw_only=True)
class ChatText:
    """The rendered text and, for every message, the characters [start, end) of its content in it."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class ChatTokens:
    """Token ids [T] of a rendered conversation, and the characters [start, end) of its text that each stands for."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def within(self, start: int, end: int) -> list[int]:
        """The places of the tokens that hold any of the characters [start, end)."""
        return [
            place for place, (first, last) in enumerate(self.offsets) if first < last and first < end and last > start
        ]


def conversation(question: Question, answer: Answer) -> list[dict[str, str]]:
    """What was said, as chat messages: the user's turns and the model's, as far as it answered."""
    messages = []
    for user, said in zip(question.turns, answer.turns):
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": said}]
    return messages


def chat_text(template: ChatTemplate, messages: Sequence[Mapping[str, str]]) -> ChatText:
    """Render `messages`; behind a user's message the template begins the model's turn, as it does for an answer.

    Where each content stands is read off the same conversation rendered with marks in place of the contents; a
    template may cut the white space at a content's ends.  Raises ValueError for one that changes more than that, or
    that fails.
    """
    behind_user = messages[-1]["role"] == "user"

    def rendered(contents: Sequence[str]) -> str:
        said = [{**message, "content": content} for message, content in zip(messages, contents, strict=True)]
        try:
            return template.prompt(said) if behind_user else template.conversation(said)
        except TemplateFault as fault:
            raise ValueError(f"the chat template fails: {fault}") from fault

    contents = [message["content"] for message in messages]
    text = rendered(contents)
    marks = [f"{_OPEN}{number}{_CLOSE}" for number in range(len(messages))]
    rest, parts = rendered(marks), []
    for mark in marks:
        part, found, rest = rest.partition(mark)
        if not found:
            raise ValueError("the chat template leaves a message out")
        parts.append(part)
    parts.append(rest)
    at, spans = len(parts[0]), []
    for number, content in enumerate(contents):
        kept = next((c for c in (content, content.strip()) if text.startswith(c + parts[number + 1], at)), None)
        if kept is None:
            raise ValueError(f"the chat template changes message {number + 1}")
        spans.append((at, at + len(kept)))
        at += len(kept) + len(parts[number + 1])
    if at != len(text) or not text.startswith(parts[0]):
        raise ValueError("the chat template's own text depends on what the messages say")
    return ChatText(text=text, spans=tuple(spans))


def chat_tokens(tokenizer: Any, text: str) -> ChatTokens:
    """The rendered text in the tokenizer's tokens; the template has written the special ones, none is added."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return ChatTokens(ids=tuple(found["input_ids"]), offsets=tuple(map(tuple, found["offset_mapping"])))
