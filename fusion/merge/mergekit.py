"""What a recipe must know of a rule besides its fields: mergekit's words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Respelled:
    """A key of mergekit's, true or false, that is the field `field` here, with the field's values for both.

    `note` is said where it is true.  A field of the key's own name takes its own values too.
    """

    field: str
    values: Mapping[bool, object]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class InRecipes:
    """How a rule stands in recipes; the defaults suit a rule that mergekit does not have."""

    # Fields of one number, or one for each target, which a recipe gives with the targets.
    per_target: frozenset[str] = frozenset()
    # Fields whose lists are values of their own, and no gradients over the layers.
    lists: frozenset[str] = frozenset()
    # How many models a recipe without base_model must name; None: any number, 0: base_model is needed.
    models_without_base: int | None = 0
    # Whether the base model is merged like a target where it is listed among the models.
    base_counts: bool = False
    # mergekit's methods that are this rule with some fields set.
    methods: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    # Keys that mergekit spells or means otherwise.
    respelled: Mapping[str, Respelled] = field(default_factory=dict)
    # Defaults that mergekit has otherwise; said aloud when a recipe leaves them open.
    mergekit_defaults: Mapping[str, object] = field(default_factory=dict)
