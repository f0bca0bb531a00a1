"""What a model says in a completion, apart from what it thought before: for answers and for a judge's replies alike.

Some endpoints give `content` as a list of parts, some as null with the thinking in a field of its own, and where no
reasoning parser is switched on the thinking stands in the text, between tags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TEXT_PARTS = ("text", "output_text")
_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)


def said_in(message: Mapping[str, Any]) -> str:
    """The text of a completion's message, its parts in order; what is not text (thinking, pictures) is left out.

    A message that says nothing else says its refusal, where it has one.  Raises ValueError for content that is neither
    text, nor parts, nor null.
    """
    content, refusal = message.get("content"), message.get("refusal")
    if not content and isinstance(refusal, str):
        return refusal
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping) and "type" in content:
        content = [content]
    if not isinstance(content, list):
        raise ValueError(f"the content of the message is a {type(content).__name__}: expected text or parts of it")
    found = []
    for part in content:
        if isinstance(part, str):
            found.append(part)
        elif not isinstance(part, Mapping):
            raise ValueError(f"a part of the message's content is a {type(part).__name__}: expected an object")
        elif part.get("type", "text") in _TEXT_PARTS:
            text = part.get("text")
            if isinstance(text, Mapping):
                text = text.get("value")
            found += [text] if isinstance(text, str) else []
        elif part.get("type") == "refusal" and isinstance(part.get("refusal"), str):
            found.append(part["refusal"])
    return "".join(found)


def without_thinking(text: str) -> str:
    """The text behind the thinking that it begins with, one block or several; the same text where it does not so begin.

    A chat template may open the tag in the prompt, so that only its end is in the text.  Where thinking never ends,
    nothing was said.
    """
    opened = _opened(text)
    if opened is not None:
        _, closed, after = _parted(text, opened[1])
        said = after.lstrip()
        return without_thinking(said) if _opened(said) else said if closed else ""
    for begin, end in _TAGS:
        before, closed, after = _parted(text, end)
        if closed and begin.casefold() not in before.casefold():
            return after.lstrip()
    return text


def _opened(text: str) -> tuple[str, str] | None:
    """The pair of tags of which a text begins with the first, in capitals or not."""
    begins = text.lstrip().casefold()
    return next((pair for pair in _TAGS if begins.startswith(pair[0].casefold())), None)


def _parted(text: str, tag: str) -> tuple[str, bool, str]:
    """What is before a tag, in capitals or not, whether it is there, and what is behind it."""
    found = re.search(re.escape(tag), text, re.IGNORECASE)
    return (text, False, "") if found is None else (text[: found.start()], True, text[found.end() :])
