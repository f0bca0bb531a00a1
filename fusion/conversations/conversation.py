"""Conversations: what is read from files, checked row by row, and handed to every model alike.

Two row forms are read, plain or gzipped.  Ours is JSONL, one conversation a line:

    {"id": "q1", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}

with an optional `domain`; `id` may be left out as well.  The other is the ShareGPT form of FuseChat-Mixture, a JSON
list or JSONL of
`{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusion.runtime.configure import Refusal, nearest

Role = Literal["system", "user", "assistant"]
OnBadRow = Literal["refuse", "skip"]

_SHAREGPT_ROLES: Mapping[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn.  Its content is kept to the byte."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise ValueError(f"role is {self.role!r}: expected system, user or assistant")
        if not isinstance(self.content, str):
            raise ValueError(f"the content of a {self.role} turn is {type(self.content).__name__}: expected text")
        if self.role == "assistant" and not self.content.strip():
            raise ValueError("an assistant turn is empty: there is nothing to learn from it")
        try:
            self.content.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"half a surrogate pair at character {error.start} of a {self.role} turn: no UTF-8 spells it"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns that alternate user, assistant, ... after an optional system turn; at least one is the assistant's.

    `id` pairs the same conversation across models; `domain` is a free label that is carried along.
    """

    id: str
    messages: tuple[Message, ...]
    domain: str = ""

    def __post_init__(self) -> None:
        turns = self.messages[1:] if self.messages and self.messages[0].role == "system" else self.messages
        for number, message in enumerate(turns):
            expected = "assistant" if number % 2 else "user"
            if message.role != expected:
                raise ValueError(
                    f"turn {number + 1} is the {message.role}'s where the {expected}'s is expected: turns alternate"
                    " user, assistant, after at most one system turn"
                )
        if len(turns) < 2:
            raise ValueError("there is no assistant turn: nothing in it can be learned or fused")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Conversations from files: which, and how many of them.

    `domains` keeps those labels only (empty: all).  `max_conversations` draws that many by the run's seed and keeps
    the files' order.  `on_bad_row: skip` leaves a row that cannot be read out, with a warning that counts them, instead
    of refusing the file.  How many tokens of a conversation count is a setting of `represent` and `train`.
    """

    files: tuple[str, ...]
    max_conversations: int | None = None
    domains: tuple[str, ...] = ()
    on_bad_row: OnBadRow = "refuse"

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files is empty: name at least one file of conversations")
        if self.max_conversations is not None and self.max_conversations < 1:
            raise ValueError(f"max_conversations is {self.max_conversations}: expected at least 1, or null for all")


def load_conversations(config: DataConfig, *, seed: int) -> list[Conversation]:
    """The conversations of the config's files, filtered and drawn; ids stay unique across files.

    Raises Refusal for what `read_conversations` refuses, an id that two files share, and a set that is empty after
    filtering.
    """
    found: list[Conversation] = []
    origin: dict[str, str] = {}
    for name in config.files:
        for conversation in read_conversations(Path(name).expanduser(), on_bad_row=config.on_bad_row):
            if conversation.id in origin:
                raise Refusal(
                    f"{name} and {origin[conversation.id]} both have a conversation '{conversation.id}': ids pair"
                    " models' outputs, so give each conversation its own, or leave the file out"
                )
            origin[conversation.id] = name
            found.append(conversation)
    return subsample(of_domains(found, config.domains), config.max_conversations, seed=seed)


def of_domains(conversations: Sequence[Conversation], domains: Sequence[str]) -> list[Conversation]:
    """Those whose label is among `domains`, all when it is empty.  Raises Refusal when none is left."""
    if not domains:
        return list(conversations)
    present = sorted({conversation.domain for conversation in conversations})
    for domain in domains:
        if domain not in present:
            raise Refusal(f"no conversation has the domain {domain!r}: {nearest(domain, filter(None, present))}")
    return [conversation for conversation in conversations if conversation.domain in domains]


def subsample(conversations: Sequence[Conversation], count: int | None, *, seed: int) -> list[Conversation]:
    """`count` of them drawn without replacement, in their first order; all when count is None or too large."""
    if count is None or count >= len(conversations):
        return list(conversations)
    chosen = random.Random(seed).sample(range(len(conversations)), count)
    return [conversations[index] for index in sorted(chosen)]


def read_conversations(path: Path, *, on_bad_row: OnBadRow = "refuse") -> list[Conversation]:
    """All conversations of a file in its order; rows without an id get one that hashes their content.

    A ShareGPT row that opens with a gpt turn loses it, as in the released code.  Raises Refusal, naming file and line
    (row, in a JSON list), for a file that is missing, not UTF-8 or not JSON, for rows that are not conversations,
    for ids that occur twice, and for a file with no row.
    """
    found: list[Conversation] = []
    bad: list[str] = []
    seen: dict[str, str] = {}
    unnamed: Counter[str] = Counter()
    for place, row in _rows(path):
        try:
            if isinstance(row, ValueError):
                raise row
            conversation = _conversation(row, unnamed)
            if conversation.id in seen:
                raise ValueError(
                    f"the id '{conversation.id}' was already given at {seen[conversation.id]}:"
                    " make ids unique, or leave them out"
                )
        except ValueError as error:
            bad.append(f"{place}: {error}")
            if on_bad_row == "refuse" and len(bad) > 100:
                break
            continue
        seen[conversation.id] = place
        found.append(conversation)
    if bad and on_bad_row == "refuse":
        raise Refusal(_bad_rows(path, bad))
    if bad:
        warnings.warn(f"{path}: {len(bad)} rows left out, the first at {bad[0]}", stacklevel=2)
    if not found:
        raise Refusal(
            f"{path} has no conversations{' left' if bad else ''}: expected one JSON object with 'messages' a line, or"
            " a JSON list of objects with 'conversations'"
        )
    return found


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write our JSONL form; the same conversations always give the same bytes."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8", newline="\n") as stream:
        for conversation in conversations:
            row: dict[str, object] = {"id": conversation.id, "messages": _plain_messages(conversation.messages)}
            if conversation.domain:
                row["domain"] = conversation.domain
            stream.write(json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) + "\n")
    draft.replace(path)


def content_id(messages: Sequence[Message]) -> str:
    """The id of a conversation that brings none: 16 hexadecimal digits of its messages' sha256."""
    text = json.dumps(_plain_messages(messages), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _bad_rows(path: Path, bad: Sequence[str]) -> str:
    more = f" ({len(bad) - 1} more rows are bad, among them {'; '.join(bad[1:3])})" if len(bad) > 1 else ""
    return f"{path}, {bad[0]}{more}. Correct or remove the row, or leave such rows out with data.on_bad_row=skip"


def _rows(path: Path) -> Iterator[tuple[str, object]]:
    """Each row's place and its parsed JSON, or a ValueError that says why there is none."""
    data = _bytes(path)
    if data.lstrip()[:1] == b"[":
        try:
            rows = json.loads(data.decode())
        except UnicodeDecodeError as error:
            at = data.count(b"\n", 0, error.start) + 1
            raise Refusal(f"{path}, line {at}: {_not_utf8(error)}. Write the file again as UTF-8") from error
        except json.JSONDecodeError as error:
            raise Refusal(
                f"{path}, line {error.lineno}: not JSON ({error.msg}). Expected one list of conversations"
            ) from error
        for number, row in enumerate(rows, start=1):
            yield f"row {number}", row
        return
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield f"line {number}", _parsed(line)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        return ValueError(_not_utf8(error))
    except json.JSONDecodeError as error:
        return ValueError(f"not JSON ({error.msg} at column {error.colno})")
    except RecursionError:
        return ValueError("not a conversation: nested too deeply")


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x})"


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refusal(
            f"{path} cannot be read ({error.strerror}): expected a file of conversations, JSONL or JSON, plain or .gz"
        ) from error
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise Refusal(f"{path} is a damaged gzip file ({error}): fetch it again") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _conversation(row: object, unnamed: Counter[str]) -> Conversation:
    if not isinstance(row, Mapping):
        raise ValueError(f"the row is a {type(row).__name__}: expected an object with 'messages' or 'conversations'")
    if "messages" in row:
        messages = _messages(row["messages"], "messages", role="role", text="content", roles=None)
    elif "conversations" in row:
        messages = _messages(row["conversations"], "conversations", role="from", text="value", roles=_SHAREGPT_ROLES)
        if messages and messages[0].role == "assistant":
            messages = messages[1:]
    else:
        raise ValueError(
            f"neither 'messages' nor 'conversations' is among its keys ({', '.join(map(str, row)) or 'none'})"
        )
    domain = row.get("domain") or ""
    if not isinstance(domain, str):
        raise ValueError(f"domain is {domain!r}: expected text")
    return Conversation(id=_id(row.get("id"), messages, unnamed), messages=messages, domain=domain)


def _messages(
    turns: object, key: str, *, role: str, text: str, roles: Mapping[str, Role] | None
) -> tuple[Message, ...]:
    if not isinstance(turns, list):
        raise ValueError(f"'{key}' is {type(turns).__name__}: expected a list of turns")
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping) or role not in turn or text not in turn:
            raise ValueError(f"turn {number} of '{key}' is not an object with '{role}' and '{text}'")
        name = turn[role]
        if roles is not None:
            if not isinstance(name, str) or name not in roles:
                raise ValueError(f"turn {number} is from {name!r}: expected {', '.join(roles)}")
            name = roles[name]
        messages.append(Message(role=name, content=turn[text]))
    return tuple(messages)


def _id(given: object, messages: Sequence[Message], unnamed: Counter[str]) -> str:
    if given is None:
        base = content_id(messages)
        unnamed[base] += 1  # the same dialogue twice in one file is two rows, distinguished by their order
        return base if unnamed[base] == 1 else f"{base}-{unnamed[base]}"
    if isinstance(given, bool) or not isinstance(given, (str, int)) or given == "":
        raise ValueError(f"id is {given!r}: expected text or a whole number")
    return str(given)
