"""What some endpoints want otherwise in a request, learnt from the first refusal that says so.

    asked = Wishes()
    fields = asked.met(fields)          # as wished so far
    if asked.learn(fields, said):       # a refusal that one of WISHES understands: ask again
        ...

What is changed is how a thing is said, never what the judge is told: a name of a field, or who says the instructions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """`refused`: how a refusal reads that `change` mends, where it `applies`."""

    refused: re.Pattern[str]
    applies: Callable[[Body], bool]
    change: Callable[[Body], dict[str, Any]]


def _as_completion_tokens(body: Body) -> dict[str, Any]:
    rest = {name: value for name, value in body.items() if name != "max_tokens"}
    return {**rest, "max_completion_tokens": body["max_tokens"]}


def _system_in_user(body: Body) -> dict[str, Any]:
    system, first, *others = body["messages"]
    merged = {**first, "content": f"{system['content']}\n\n{first['content']}"}
    return {**body, "messages": [merged, *others]}


def _system_before_user(body: Body) -> bool:
    return [message["role"] for message in body["messages"][:2]] == ["system", "user"]


WISHES = (
    # Reasoning models of OpenAI, and gateways to them.
    Wish(
        refused=re.compile(
            r"max_completion_tokens"
            r"|max_tokens\W+(?:\w+\W+){0,4}?(?:not supported|unsupported|not permitted|not allowed|deprecated)"
            r"|(?:unsupported|unknown|unrecognized|unexpected)[^.]{0,60}max_tokens",
            re.I,
        ),
        applies=lambda body: "max_tokens" in body and "max_completion_tokens" not in body,
        change=_as_completion_tokens,
    ),
    # Chat templates without a system role, such as Gemma's and Mistral's first.
    Wish(
        refused=re.compile(
            r"system (?:role|message|prompt|instruction)|developer instruction|roles? must alternate"
            r"|(?:unexpected|invalid|unknown|unsupported) (?:message )?role"
            r"|role ['\"]?system|got ['\"]?system|['\"]system['\"]"
            r"|(?:first message must|must (?:start|begin) with).{0,30}user",
            re.I,
        ),
        applies=_system_before_user,
        change=_system_in_user,
    ),
)


class Wishes:
    """What one endpoint has been found to want."""

    def __init__(self) -> None:
        self._found: list[Wish] = []

    def met(self, body: Body) -> dict[str, Any]:
        """A request in the way that the endpoint wants it, as far as is known."""
        found = dict(body)
        for wish in self._found:
            if wish.applies(found):
                found = wish.change(found)
        return found

    def learn(self, body: Body, said: str) -> bool:
        """Whether a refusal of this body, in the endpoint's words, is one that asking in another way mends."""
        for wish in WISHES:
            if wish.applies(body) and wish.refused.search(said):
                if wish not in self._found:
                    self._found.append(wish)
                return True
        return False
