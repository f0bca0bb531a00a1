"""What evaluation hands on: Question -> Answer -> Verdict | Unscored -> ItemScore, one JSON object per line on disk.

    with Journal(path) as journal:              # append-only; a killed process loses no finished record
        journal.append(Verdict(question_id="81", turn=1, value=7.0, judge="reference", text="Rating: [[7]]"))
    done = read_verdicts(path)

Every line names its record type.  A last line without its newline was torn by a kill: it is left out on reading and
cut off before the next append.  Any other unreadable line is refused with file and line.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from eval.files import read_bytes
from fusion.runtime.configure import Refusal
from fusion.runtime.reading import decoded


@dataclass(frozen=True, kw_only=True)
class Question:
    """One item of a benchmark: what the user says turn by turn, and the known answers where there are any."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError(f"question {self.id} has no turn")
        if self.references is not None and len(self.references) > len(self.turns):
            raise ValueError(f"question {self.id} has {len(self.references)} references for {len(self.turns)} turns")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model said to one question.  `weights` is the digest of the weights that said it, empty if unknown.

    When a turn could not be answered, `turns` holds those before it and `reason` says why.  `cut`: the turns, from 1,
    that ended because no more tokens were allowed; `thought`: in how many thinking was taken out.
    """

    question_id: str
    model: str
    turns: tuple[str, ...]
    weights: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: str | None = None
    cut: tuple[int, ...] = ()
    thought: int = 0


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Which showing of an answer a verdict is on."""

    question_id: str
    # From 1.
    turn: int
    # The model it is compared with; empty where it is rated alone.
    opponent: str = ""
    # 0: the protocol's own; 1: shown first; 2: shown second.
    order: int = 0
    # The repetition, 0 for the first time it is asked.
    repeat: int = 0

    @property
    def first_time(self) -> Place:
        """The same showing when it is asked for the first time: what its repetitions have in common."""
        return dataclasses.replace(self, repeat=0)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What a request or a record is about: one showing of one turn of an answer.  Its fields are those of `Place`."""

    question_id: str
    turn: int
    opponent: str = ""
    order: int = 0
    repeat: int = 0

    @property
    def place(self) -> Place:
        return Place(
            question_id=self.question_id,
            turn=self.turn,
            opponent=self.opponent,
            order=self.order,
            repeat=self.repeat,
        )


@dataclass(frozen=True, kw_only=True)
class Verdict(Placed):
    """A judge's value for one turn of one answer, in the benchmark's scale (rating 1 to 10, preference 1 to 2).

    `text` and `top_logprobs` (token, log-probability in nats) are the reply that the value was parsed from.
    """

    value: float
    judge: str
    text: str
    top_logprobs: tuple[tuple[str, float], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(
                f"the verdict on question {self.question_id}, turn {self.turn} is {self.value}: use Unscored"
            )


UnscoredKind = Literal["no_answer", "no_reply", "rejected", "unreadable", "not_recorded"]


@dataclass(frozen=True, kw_only=True)
class Unscored(Placed):
    """Why one turn of one answer has no verdict; never averaged in, always counted.

    `kind`: the model gave no answer; the judge gave no reply (asked again on resume); its endpoint rejects the request;
    its reply could not be read; the replayed file holds no verdict on it.
    """

    reason: str
    judge: str
    text: str = ""
    kind: UnscoredKind = "unreadable"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class ItemScore:
    """One item's contribution to a metric; `value` is None, with a reason, when it is unscored.

    Values are in the metric's inner unit: ratings 1 to 10, win rates 0 to 1, lengths in characters.
    """

    benchmark: str
    metric: str
    question_id: str
    turn: int
    category: str
    value: float | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"item {self.question_id}, turn {self.turn} needs either a value or a reason")


Record = Question | Answer | Verdict | Unscored | ItemScore
R = TypeVar("R", bound="Record")
# What judging one model's answers left, a record a place.
Verdicts = Sequence[Verdict | Unscored]


def to_line(record: Record) -> str:
    """One JSON object on one line, the type's name first; non-ASCII text stays readable."""
    body = {"type": type(record).__name__}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value != field.default:
            body[field.name] = value
    return json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n"


def from_mapping(row: object, *kinds: type[R]) -> R:
    """The record that `to_line` wrote.  Raises ValueError for anything else."""
    by_name = {kind.__name__: kind for kind in kinds}
    name = row.get("type") if isinstance(row, dict) else None
    if not isinstance(row, dict) or name not in by_name:
        raise ValueError(f"expected a record of type {' or '.join(by_name)}, got {name!r}")
    known = _fields(name)
    values = {key: value for key, value in row.items() if key != "type"}
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{name} has no field {key!r}")
        if known[key] and value is not None:
            if not isinstance(value, list):
                raise ValueError(f"{name}.{key} is {value!r}: expected a list")
            values[key] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    try:
        return by_name[name](**values)
    except TypeError as error:  # a missing field
        raise ValueError(str(error).split("__init__() ")[-1]) from error


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a whole file at once; a `.gz` name is compressed, with the same bytes every time."""
    data = "".join(map(to_line, records)).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_records(path: Path, *kinds: type[R]) -> list[R]:
    """All records of a file in order; none when it is not there.  Raises Refusal naming file and line."""
    if not path.exists():
        return []
    records = []
    *lines, _torn = read_bytes(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            records.append(from_mapping(decoded(line), *kinds))
        except ValueError as error:  # also JSONDecodeError and UnicodeDecodeError
            raise Refusal(f"{path}, line {number}: {error}; delete the file to compute it again") from error
    return records


def read_verdicts(path: Path) -> list[Verdict | Unscored]:
    """All records of a verdict file in order; none when it is not there."""
    return cast("list[Verdict | Unscored]", read_records(path, *(Verdict, Unscored)))


class Journal:
    """Append-only records.  Each append reaches the operating system before it returns, so killing this process loses
    nothing; it is synced to disk at most `sync_seconds` later (0: before `append` returns).
    """

    def __init__(self, path: Path, *, sync_seconds: float = 1.0) -> None:
        self.path = path
        self._sync_seconds = sync_seconds
        self._synced = time.monotonic()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _cut_torn_line(self._handle)

    def append(self, *records: Record) -> None:
        """Write the records in one piece.  Raises OSError when the disk is full."""
        data = memoryview("".join(map(to_line, records)).encode())
        while data:
            data = data[os.write(self._handle, data) :]
        if time.monotonic() - self._synced >= self._sync_seconds:
            self.sync()

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        os.fsync(self._handle)
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync()
        os.close(self._handle)


def _cut_torn_line(handle: int) -> None:
    size = os.fstat(handle).st_size
    kept = size
    while kept and os.pread(handle, 1, kept - 1) != b"\n":
        kept -= 1
    if kept != size:
        os.ftruncate(handle, kept)


@functools.cache
def _fields(name: str) -> dict[str, bool]:
    """Field names of a record type, and whether the field is a tuple (JSON gives lists)."""
    kind = next(kind for kind in get_args(Record) if kind.__name__ == name)
    hints = get_type_hints(kind)
    return {
        field.name: any(get_origin(part) is tuple for part in (hints[field.name], *get_args(hints[field.name])))
        for field in dataclasses.fields(kind)
    }
