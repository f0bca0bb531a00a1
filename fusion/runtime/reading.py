"""JSON and YAML that others wrote, or that a crash left behind: read whole, or one error that says what is wrong.

Python's own readers raise half a dozen types for damaged text, and take text that cannot be written again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fusion.runtime.configure import Refusal

_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # a surrogate, spelt as an escape: two make a letter, one is none
# Deeper than anything meant, and far from where Python's own functions give up.
_LEVELS = 100
# A few lines of YAML whose names stand for lists of each other unfold to more than any memory holds.
_ENTRIES = 100_000


def decoded(data: bytes | str, *, once: bool = False, halves: bool = False) -> Any:
    """What JSON text says.  With `once`, a key that an object gives twice is refused, instead of its first value lost.

    Raises ValueError for text that is not JSON or not UTF-8, is nested more than 100 levels deep, has a number of
    thousands of digits, or holds half a surrogate pair, which no file can hold (`halves`: it may, the caller mends
    them).
    """
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_each_once if once else None)
        if not halves and _HALF_A_PAIR.search(raw):
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(_half(error)) from None
    if raw.count(b"[") + raw.count(b"{") > _LEVELS:
        _check_shape(found)
    return found


def decoded_yaml(text: str) -> Any:
    """What YAML text says.

    Raises ValueError for text that is not YAML or names no date or number that there is, for several documents, for a
    key that is given twice, and for what it says where that is nested more than 100 levels deep, contains itself,
    unfolds to more than 100,000 entries or holds half a surrogate pair.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_EachKeyOnce))
        found = documents[0] if documents else None
        if len(documents) > 1:
            raise ValueError(f"it holds {len(documents)} documents: give each a file of its own")
        _check_shape(found, entries=_ENTRIES)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(_half(error)) from None
    return found


class _EachKeyOnce(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if key != "<<" and keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands there twice", node.start_mark
            )
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_json(path: Path, *, expected: str) -> Any:
    """What a JSON file says; a mark of byte order before it is passed over.

    Raises Refusal, saying what was `expected`, for a file that is not there or cannot be read.
    """
    data = _bytes(path, expected)
    try:
        return decoded(data)
    except ValueError as error:
        raise Refusal(f"{path} cannot be read as JSON ({error}): expected {expected}") from error


def read_object(path: Path, *, expected: str) -> dict[str, Any]:
    """The object in a JSON file.  Raises Refusal where `read_json` does, and for anything but an object."""
    found = read_json(path, expected=expected)
    if not isinstance(found, dict):
        raise Refusal(f"{path} holds a JSON {_kind(found)}, not an object: expected {expected}")
    return found


def read_yaml(path: Path, *, expected: str) -> Any:
    """What a YAML file says.  Raises Refusal, saying what was `expected`, for one that cannot be read."""
    data = _bytes(path, expected)
    try:
        return decoded_yaml(data.decode())
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} is not YAML (not UTF-8: byte 0x{data[error.start]:02x}): expected {expected}") from error
    except ValueError as error:
        raise Refusal(f"{path} is not YAML ({error}): expected {expected}") from error


def read_text(path: Path, *, expected: str) -> str:
    """What a file of text says.  Raises Refusal, saying what was `expected`, for one that cannot be read as UTF-8."""
    data = _bytes(path, expected)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} is not UTF-8 (byte 0x{data[error.start]:02x}): expected {expected}") from error


def _bytes(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}: expected {expected}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        said = (error.strerror if isinstance(error, OSError) else None) or error
        raise Refusal(f"{path} cannot be read ({said}): expected {expected}") from error


def _check_shape(found: object, *, entries: float = math.inf) -> None:
    """Raise ValueError for what is nested too deeply or has too many entries, UnicodeEncodeError for half a letter."""
    waiting: list[tuple[object, int]] = [(found, 0)]
    while waiting:
        one, level = waiting.pop()
        if isinstance(one, str):
            one.encode()
        elif isinstance(one, (dict, list, tuple, set)):
            inner = [*one, *one.values()] if isinstance(one, dict) else [*one]
            entries -= len(inner)
            if level >= _LEVELS:
                raise ValueError(f"it is nested too deeply: more than {_LEVELS} levels")
            if entries < 0:
                raise ValueError(f"it unfolds to more than {_ENTRIES} entries")
            waiting += [(item, level + 1) for item in inner]


def _half(error: UnicodeEncodeError) -> str:
    return f"it holds half a surrogate pair (\\u{ord(error.object[error.start]):x})"


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it gives {twice!r} twice")
    return found


def _kind(found: object) -> str:
    return {list: "list", str: "text", bool: "truth value", int: "number", float: "number"}.get(type(found), "null")
