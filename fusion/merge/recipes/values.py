"""What a recipe's value is for one parameter: a number, a gradient over the layers, or the first filter that fits."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fusion.merge.recipes import foreign
from fusion.merge.rules.slerp import gradient
from fusion.runtime.configure import Refusal


def for_all(value: object) -> bool:
    """Whether a setting has a value for every parameter; filters may leave some without one."""
    entries = [value] if isinstance(value, Mapping) else value
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return True
    filters = [entry.get("filter") if isinstance(entry, Mapping) else None for entry in entries]
    return any(wanted is None or wanted == "*" for wanted in filters)


@dataclass(frozen=True, kw_only=True)
class AmongLayers:
    """A parameter's name, and where it is among the layers that a gradient is spread over, or before or after them."""

    name: str
    layer: int | None
    layers: int | None
    after: bool


def first_given(
    levels: Sequence[Mapping[str, object]], key: str, *, place: AmongLayers, lists: Collection[str]
) -> object:
    """The value of `key` on the first of these levels that has one; the fields in `lists` are values as they are.

    Raises Refusal for what is no value.
    """
    for level in levels:
        if key in level:
            value = level[key] if key in lists else _resolved(level[key], key, place)
            if value is not None:
                return value
    return None


def _resolved(value: object, key: str, place: AmongLayers) -> object:
    if isinstance(value, Mapping):  # one filter without a list around it
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return _number(value, key)
    if not value:
        raise Refusal(f"{key} is an empty list: expected numbers, or filters with values")
    if all(isinstance(item, Mapping) for item in value):
        for item in value:
            unknown = set(item) - {"filter", "value"}
            if unknown or "value" not in item:
                raise Refusal(f"{key} has the entry {dict(item)}: expected filter and value")
            wanted = item.get("filter")
            if wanted is None or wanted == "*" or str(wanted) in place.name:
                return _resolved(item["value"], key, place)
        return None
    read = [_number(item, key) for item in value]
    numbers = [float(n) for n in read if isinstance(n, (int, float)) and not isinstance(n, bool)]
    if len(numbers) < len(value):
        raise Refusal(f"{key} is {list(value)!r}: expected numbers, a gradient over the layers, or filters with values")
    return gradient(numbers, place.layer, place.layers, after=place.after)


def _number(value: object, key: str) -> object:
    """A number, which YAML may have read as text; anything else as it is.  Raises Refusal for NaN and infinities."""
    found = foreign.number(value)
    if isinstance(found, (int, float)) and not abs(found) <= sys.float_info.max:
        raise Refusal(f"{key} is {str(value)[:20]}: expected a finite number")
    return found
