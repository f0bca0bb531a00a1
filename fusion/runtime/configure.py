"""From a plain mapping to a checked, frozen dataclass, and from a name to the rule it chooses.

Hydra composes a tree of settings; `typed` turns it at once into dataclasses, so that no loose dictionary travels
further.  Every refusal is a `Refusal`: one message that says what was given, what was expected, and the way out.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Refusal(Exception):
    """Input this program will not work on.  Its text is the whole message; the command exits with status 2."""


# More names than this in one message hide the message.
_LISTED = 40


def nearest(name: str, valid: Iterable[str]) -> str:
    """A sentence that names the valid spelling closest to `name`; when none is close, it lists them if they are few."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(names) > _LISTED:
        return f"nothing like it is among the {len(names)} valid names; --help lists the settings"
    return f"valid names: {', '.join(names) or 'none'}"


def choose(table: Mapping[str, type[T]], mapping: Mapping[str, object], *, at: str) -> T:
    """The entry of `table` that `mapping['name']` names, built from the mapping's other keys.

    Raises Refusal for a missing or unknown name and for hyperparameters the entry does not take.
    """
    name = mapping.get("name")
    if not isinstance(name, str) or name not in table:
        raise Refusal(f"{at}.name is {name!r}: {nearest(str(name), table)}")
    return typed({key: value for key, value in mapping.items() if key != "name"}, table[name], at=at)


def typed(mapping: object, cls: type[T], *, at: str = "") -> T:
    """Build the frozen dataclass `cls` from `mapping`, field by field, refusing whatever does not fit.

    Lists become tuples where a field says tuple; whole numbers are accepted for floats; nothing else is converted.
    `at` is the dotted place of the mapping in the composed config, used in messages.
    """
    if not isinstance(mapping, Mapping):
        raise Refusal(f"{at or 'the config'} is {mapping!r}: expected a group of settings for {cls.__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise Refusal(f"unknown key '{_join(at, str(key))}': {nearest(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(mapping[name], hints[name], _join(at, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Refusal(f"'{_join(at, name)}' is missing: expected {_spell(hints[name])}")
    try:
        return cls(**values)
    except ValueError as error:  # range checks live in __post_init__
        raise Refusal(f"{at or cls.__name__}: {error}") from error


def plain(value: object) -> Any:
    """Dataclasses, tuples and enums as JSON's types, keys in declared order; `restored` is the way back.

    A dataclass that several tables could have built keeps its class name, so two rules with equal fields stay apart.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **body}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value


def restored(value: object, classes: Iterable[type]) -> Any:
    """What `plain` made of dataclasses of these `classes`, as dataclasses again; raises Refusal for any other."""
    known = {cls.__name__: cls for cls in classes}
    if isinstance(value, list):
        return [restored(item, known.values()) for item in value]
    if not isinstance(value, Mapping):
        return value
    body = {key: restored(item, known.values()) for key, item in value.items() if key != "type"}
    if "type" not in value:
        return body
    if value["type"] not in known:
        raise Refusal(f"there is no {value['type']!r} among {', '.join(known)}: this was written by another version")
    return typed(body, known[value["type"]])


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _spell(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _convert(value: object, hint: Any, at: str) -> Any:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, hint, at)
    if origin is typing.Literal:
        if value in arguments and not (isinstance(value, bool) and True not in arguments and False not in arguments):
            return value
        raise Refusal(f"{at} is {value!r}: {nearest(str(value), map(str, arguments))}")
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise Refusal(f"{at} is {value!r}: expected a list")
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(inner) != len(value):
            raise Refusal(f"{at} has {len(value)} entries: expected {len(inner)}")
        return tuple(
            _convert(item, kind, f"{at}[{i}]") for i, (item, kind) in enumerate(zip(value, inner, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise Refusal(f"{at} is {value!r}: expected a mapping")
        return {_convert(k, arguments[0], at): _convert(v, arguments[1], f"{at}.{k}") for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else typed(value, hint, at=at)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value in [member.value for member in hint]:
            return hint(value)
        raise Refusal(f"{at} is {value!r}: {nearest(str(value), [str(m.value) for m in hint])}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise Refusal(f"{at} is {value!r}: expected {_spell(hint)}")


def _takes(choice: Any, value: object) -> bool:
    """Whether a group of settings is meant for a dataclass, or a list for a tuple."""
    if isinstance(value, Mapping):
        return dataclasses.is_dataclass(choice)
    return isinstance(value, (list, tuple)) and typing.get_origin(choice) is tuple


def _convert_union(value: object, choices: tuple[Any, ...], hint: Any, at: str) -> Any:
    if value is None and type(None) in choices:
        return None
    refusals = []
    meant = [choice for choice in choices if _takes(choice, value)]  # whose refusal says more than that none fits
    for choice in meant or choices:
        if choice is type(None):
            continue
        try:
            return _convert(value, choice, at)
        except Refusal as refusal:
            refusals.append(refusal)
    if len(refusals) == 1:
        raise refusals[0]
    raise Refusal(f"{at} is {value!r}: expected {_spell(hint)}")
