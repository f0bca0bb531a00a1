"""A merge that was done, as the recipe that does it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fusion.merge import MERGE_RULES, MergeRule
from fusion.runtime.configure import plain


def written_recipe(
    rule: MergeRule, *, pivot: str, targets: Sequence[str], seed: int, merged: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The keys of fusion.merge.recipes.recipe under which `pivot` and `targets` merge by `rule` to the same bytes.

    `merged`: `dtype` and `rounding`, where they are not the defaults (fusion.runtime.precision.MergedConfig.decides).
    A hyperparameter with a number for each target stands with the targets, all others stand once.
    """
    (name,) = (name for name, kind in MERGE_RULES.items() if kind is type(rule))
    per_target = MERGE_RULES[name].in_recipes.per_target
    values = {field.name: plain(getattr(rule, field.name)) for field in dataclasses.fields(rule)}
    each = {key: value for key, value in values.items() if key in per_target and isinstance(value, list)}
    whole = {key: value for key, value in values.items() if key not in each and value is not None}
    models = []
    for number, target in enumerate(targets):
        own = {key: value[number] for key, value in each.items()}
        models.append({"model": target} | ({"parameters": own} if own else {}))
    recipe: dict[str, object] = {"merge_method": name, "base_model": pivot, "models": models}
    written = {key: value for key, value in (merged or {}).items() if value is not None}
    return recipe | ({"parameters": whole} if whole else {}) | written | {"seed": seed}
