"""Turns that a chat template may refuse, said in a user's turn instead.

Gemma's and Mistral's first templates know no system turn, and few know what a tool said.  What was said is kept; only
whose turn it is in changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

RoleContent = dict[str, str]  # role and content


def readings(turns: Sequence[RoleContent]) -> Iterator[list[RoleContent]]:
    """The turns as they are; with the system's text in front of the first user's; and with tools' turns as user's."""
    yield list(turns)
    if turns[0]["role"] == "system":
        turns = _system_in_user(turns)
        yield list(turns)
    if any(turn["role"] == "tool" for turn in turns):
        yield _tools_as_user(turns)


def left_out(turns: Sequence[RoleContent], text: str) -> str | None:
    """Whose of the turns is not in the text, white space at its ends aside; None when each has a place of its own."""
    for turn in sorted(turns, key=lambda turn: -len(turn["content"])):  # a short one may be part of a long one
        said = turn["content"].strip()
        if said not in text:
            return turn["role"]
        text = text.replace(said, "\0", 1)
    return None


def _system_in_user(turns: Sequence[RoleContent]) -> list[RoleContent]:
    system, user, *rest = turns
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def _tools_as_user(turns: Sequence[RoleContent]) -> list[RoleContent]:
    found: list[RoleContent] = []
    for turn in turns:
        if turn["role"] != "tool":
            found.append(turn)
        elif found and found[-1]["role"] == "user":  # several tools answered: users and assistants take turns
            found[-1] = {"role": "user", "content": f"{found[-1]['content']}\n\n{turn['content']}"}
        else:
            found.append({"role": "user", "content": turn["content"]})
    return found
