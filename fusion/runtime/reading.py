"""JSON that others wrote, or that a crash left behind: read whole, or one error that says what is wrong with it.

Python's own reader raises half a dozen types for damaged text, and takes text that cannot be written again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.runtime.configure import Refusal

_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # a surrogate, spelt as an escape: two make a letter, one is none


def decoded(data: bytes | str, *, once: bool = False, halves: bool = False) -> Any:
    """What JSON text says.  With `once`, a key that an object gives twice is refused, instead of its first value lost.

    Raises ValueError for text that is not JSON or not UTF-8, is nested too deeply, has a number of thousands of digits,
    or holds half a surrogate pair, which no file can hold (`halves`: it may, the caller mends them).
    """
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_each_once if once else None)
        if not halves and _HALF_A_PAIR.search(raw):
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds half a surrogate pair (\\u{ord(error.object[error.start]):x})") from None
    return found


def read_json(path: Path, *, expected: str) -> Any:
    """What a JSON file says; a mark of byte order before it is passed over.

    Raises Refusal, saying what was `expected`, for a file that is not there or cannot be read.
    """
    try:
        return decoded(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}: expected {expected}") from None
    except OSError as error:
        raise Refusal(f"{path} cannot be read ({error.strerror}): expected {expected}") from error
    except ValueError as error:
        raise Refusal(f"{path} cannot be read as JSON ({error}): expected {expected}") from error


def read_object(path: Path, *, expected: str) -> dict[str, Any]:
    """The object in a JSON file.  Raises Refusal where `read_json` does, and for anything but an object."""
    found = read_json(path, expected=expected)
    if not isinstance(found, dict):
        raise Refusal(f"{path} holds a JSON {_kind(found)}, not an object: expected {expected}")
    return found


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it gives {twice!r} twice")
    return found


def _kind(found: object) -> str:
    return {list: "list", str: "text", bool: "truth value", int: "number", float: "number"}.get(type(found), "null")
