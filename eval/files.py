"""Reading files that others wrote: plain or gzip, a JSON list or JSON lines, with refusals that name the place."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.runtime.configure import Refusal
from fusion.runtime.reading import decoded


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked when its name ends in `.gz`.  Raises Refusal when it is missing or not gzip."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError as error:
        raise Refusal(f"there is no file {path}") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: a null byte in its name
        raise Refusal(f"{path} cannot be read: {error}") from error


def read_rows(path: Path) -> list[dict[str, object]]:
    """The rows of a benchmark package's own file: a JSON list of objects, or JSON lines; plain or `.gz`.

    Raises Refusal naming the file, and the line where there is one.
    """
    data = read_bytes(path)
    at = str(path)
    try:
        if data.lstrip()[:1] == b"[":
            rows = decoded(data)
        else:
            rows = []
            for number, line in enumerate(data.split(b"\n"), start=1):
                at = f"{path}, line {number}"
                if line.strip():
                    rows.append(decoded(line))
    except ValueError as error:
        raise Refusal(f"{at}: not JSON ({error})") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise Refusal(f"{path}, row {number} is {type(row).__name__}: expected an object")
    if not rows:
        raise Refusal(f"{path} holds no rows")
    return list(rows)


def wanted(row: dict[str, object], *names: str, path: Path, number: int) -> Sequence[Any]:
    """The values of `names` in a package's row.  Raises Refusal naming file, row and the first that is missing."""
    for name in names:
        if name not in row:
            raise Refusal(f"{path}, row {number} has no '{name}': found {', '.join(map(str, row)) or 'nothing'}")
    return [row[name] for name in names]


def texts(value: object) -> tuple[str, ...]:
    """A list of texts from a package's row.  Raises ValueError for anything else, a bare text included."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of texts, got {str(value)[:60]!r}")
    return tuple(value)


def identifier(value: object) -> str:
    """A question's number or name as text, whatever a table on the way has made of it: 81, 81.0 and "81" are one.

    Raises ValueError for anything but text and whole numbers.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{value!r} is no identifier: expected text or a whole number")
    return str(value)
