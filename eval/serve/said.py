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
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
_OPENS = re.compile(rf"\s*({'|'.join(re.escape(begin) for begin, _ in _TAGS)})")


def said_in(message: Mapping[str, Any]) -> str:
    """The text of a completion's message, its parts in order; what is not text (thinking, pictures) is left out.

    Raises ValueError for content that is neither text, nor parts, nor null.
    """
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"the content of the message is a {type(content).__name__}: expected text or parts of it")
    found = []
    for part in content:
        if isinstance(part, str):
            found.append(part)
        elif not isinstance(part, Mapping):
            raise ValueError(f"a part of the message's content is a {type(part).__name__}: expected an object")
        elif part.get("type", "text") in _TEXT_PARTS and isinstance(part.get("text"), str):
            found.append(part["text"])
    return "".join(found)


def without_thinking(text: str) -> str:
    """The text behind the thinking that it begins with; the same text where it does not begin so.

    A chat template may open the tag in the prompt, so that only its end is in the text.  Where thinking never ends,
    nothing was said.
    """
    opened = _OPENS.match(text)
    for begin, end in _TAGS:
        if opened is not None and opened[1] != begin:
            continue
        before, closed, after = text.partition(end)
        if opened is not None:
            return after.lstrip() if closed else ""
        if closed and begin not in before:
            return after.lstrip()
    return text
