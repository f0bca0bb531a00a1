"""Conversations: what is read from data, checked row by row, and handed to every model alike.

Ours is JSONL, one conversation a line, with an optional `domain`; `id` may be left out as well:

    {"id": "q1", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}

The other forms that rows may have stand in `fusion.conversations.rows`, the files in `fusion.conversations.row_files`.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, cast

from fusion.conversations.file_part import FilePart, check_name
from fusion.conversations.hub import dataset_rows
from fusion.conversations.row_files import rows_of
from fusion.conversations.rows import Thinking, shortened, turns_of
from fusion.runtime.configure import Refusal, nearest

Role = Literal["system", "user", "assistant", "tool"]
OnBadRow = Literal["refuse", "skip"]

# Whose turn may follow whose; a conversation begins with a system's or a user's.
_NEXT: Mapping[str, Sequence[str]] = {
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn.  Its content is kept to the byte."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"role is {shortened(repr(self.role))}: expected system, user, assistant or tool")
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
    Between two of the assistant's may stand what the tools that it called returned.

    `id` pairs the same conversation across models; `domain` is a free label that is carried along.
    """

    id: str
    messages: tuple[Message, ...]
    domain: str = ""

    def __post_init__(self) -> None:
        turns = self.messages[1:] if self.messages and self.messages[0].role == "system" else self.messages
        expected: Sequence[str] = ("user",)
        for number, message in enumerate(turns, start=1):
            if message.role not in expected:
                wanted = " or ".join(f"the {role}'s" for role in expected)
                raise ValueError(
                    f"turn {number} is the {message.role}'s where {wanted} is expected: turns alternate user,"
                    " assistant, after at most one system turn"
                )
            expected = _NEXT[message.role]
        if len(turns) < 2:
            raise ValueError("there is no assistant turn: nothing in it can be learned or fused")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Conversations from files or from a data set of the hub: which, and how many of them.

    How many tokens of a conversation count is a setting of `represent` and `train`.
    """

    # Paths, or patterns such as data/*.parquet; one may be given without a list.  {path, domain, skip, first} takes
    # some rows of a file, and labels them.
    files: tuple[str | FilePart, ...] | str = ()
    dataset: str | None = None  # owner/name on the hub, or a folder that `datasets` loads; instead of files
    subset: str | None = None  # of the data set, where it has several
    split: str = "train"
    revision: str | None = None  # branch, tag or commit; null: what the hub has now, whose commit is noted
    max_conversations: int | None = None  # draws that many by the run's seed and keeps their order
    domains: tuple[str, ...] = ()  # keeps these labels only; empty: all
    thinking: Thinking = "keep"  # remove: what an answer thinks at its beginning is neither represented nor learned
    on_bad_row: OnBadRow = "refuse"  # skip: a row that cannot be read is left out, with a warning that counts them

    def __post_init__(self) -> None:
        if isinstance(self.files, str):
            object.__setattr__(self, "files", (self.files,))
        named = [one for one in self.files if isinstance(one, str)]
        for name in (*named, *([] if self.dataset is None else [self.dataset])):
            check_name(name)
        if bool(self.files) == (self.dataset is not None):
            raise ValueError("expected files or a dataset: name at least one file of conversations, or a data set")
        if self.max_conversations is not None and self.max_conversations < 1:
            raise ValueError(f"max_conversations is {self.max_conversations}: expected at least 1, or null for all")

    def parts(self) -> list[FilePart]:
        """What `files` names, patterns filled in by name.  Raises Refusal for a pattern that no file has."""
        named = (FilePart(path=one) if isinstance(one, str) else one for one in self.files)
        return list(dict.fromkeys(part for one in named for part in one.found()))

    def paths(self) -> list[Path]:
        """The files.  Raises Refusal for a pattern that no file has."""
        return list(dict.fromkeys(Path(part.path) for part in self.parts()))


def load_conversations(config: DataConfig, *, seed: int) -> list[Conversation]:
    """The conversations of the config's files or data set, filtered and drawn; ids stay unique across files.

    Raises Refusal for what `read_conversations` and `dataset_rows` refuse, an id that two files share, and a set that
    is empty after filtering.
    """
    found: list[Conversation] = []
    origin: dict[str, str] = {}
    unnamed: Counter[str] = Counter()
    for name, rows, domain in _origins(config):
        for read in _checked(name, rows, unnamed, on_bad_row=config.on_bad_row, thinking=config.thinking):
            conversation = read if read.domain or not domain else replace(read, domain=domain)
            if conversation.id in origin:
                raise Refusal(
                    f"{name} and {origin[conversation.id]} both have a conversation '{shortened(conversation.id)}':"
                    " ids pair models' outputs, so give each conversation its own, or leave the file out"
                )
            origin[conversation.id] = name
            found.append(conversation)
    return subsample(of_domains(found, config.domains), config.max_conversations, seed=seed)


def _origins(config: DataConfig) -> Iterator[tuple[str, Iterator[tuple[str, object]], str | None]]:
    """Name, rows and label of everything that the config names."""
    if config.dataset is not None:
        rows = dataset_rows(config.dataset, subset=config.subset, split=config.split, revision=config.revision)
        yield config.dataset, rows, None
    for part in config.parts():
        yield part.path, islice(rows_of(Path(part.path)), part.rows.start, part.rows.stop), part.domain


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


def read_conversations(
    path: Path, *, on_bad_row: OnBadRow = "refuse", thinking: Thinking = "keep"
) -> list[Conversation]:
    """All conversations of a file in its order; rows without an id get one that hashes their content.

    Raises Refusal, naming file and line (row, in a list or a table), for what `rows_of` refuses, for rows that are not
    conversations, for ids that occur twice, and for a file with no row.
    """
    return _checked(str(path), rows_of(path), Counter(), on_bad_row=on_bad_row, thinking=thinking)


def _checked(
    name: str,
    rows: Iterable[tuple[str, object]],
    unnamed: Counter[str],
    *,
    on_bad_row: OnBadRow,
    thinking: Thinking,
) -> list[Conversation]:
    """`unnamed` counts the dialogues without an id by their content."""
    found: list[Conversation] = []
    bad: list[str] = []
    seen: dict[str, str] = {}
    for place, row in rows:
        try:
            if isinstance(row, ValueError):
                raise row
            conversation = _conversation(row, unnamed, thinking)
            if conversation.id in seen:
                raise ValueError(
                    f"the id '{shortened(conversation.id)}' was already given at {seen[conversation.id]}:"
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
        raise Refusal(_bad_rows(name, bad))
    if bad:
        warnings.warn(f"{name}: {len(bad)} rows left out, the first at {bad[0]}", stacklevel=3)
    if not found:
        raise Refusal(
            f"{name} has no conversations{' left' if bad else ''}: expected one JSON object with 'messages' a line, or"
            " a JSON list or a table of rows with 'conversations', 'prompt' and 'completion', or 'instruction' and"
            " 'output'"
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


def _bad_rows(name: str, bad: Sequence[str]) -> str:
    more = f" ({len(bad) - 1} more rows are bad, among them {'; '.join(bad[1:3])})" if len(bad) > 1 else ""
    return f"{name}, {bad[0]}{more}. Correct or remove the row, or leave such rows out with data.on_bad_row=skip"


def _conversation(row: object, unnamed: Counter[str], thinking: Thinking) -> Conversation:
    turns = turns_of(row, thinking=thinking)
    # A role of another name is refused by the message itself.
    messages = tuple(Message(role=cast(Role, turn.role), content=turn.content) for turn in turns)
    assert isinstance(row, Mapping)
    domain = row.get("domain") or ""
    if not isinstance(domain, str):
        raise ValueError(f"domain is {shortened(repr(domain))}: expected text")
    return Conversation(id=_id(row.get("id"), messages, unnamed), messages=messages, domain=domain)


def _id(given: object, messages: Sequence[Message], unnamed: Counter[str]) -> str:
    if given is None or given != given:  # NaN, as a column of numbers says that there is none
        base = content_id(messages)
        unnamed[base] += 1  # the same dialogue twice is two rows, distinguished by their order
        return base if unnamed[base] == 1 else f"{base}-{unnamed[base]}"
    if isinstance(given, bool) or not isinstance(given, (str, int)) or given == "":
        raise ValueError(f"id is {shortened(repr(given))}: expected text or a whole number")
    return str(given)
