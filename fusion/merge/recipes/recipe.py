"""A merge written down as YAML: mergekit's keys, and the hyperparameters of our rules.

    merge_method: ties
    base_model: ./pivot
    models:
      - {model: ./target-a, parameters: {weight: 0.2, density: 0.6}}
      - {model: ./target-b, parameters: {weight: [0.1, 0.3], density: 0.6}}     # a list: a gradient over the layers
    parameters: {normalize: true, scope: model}
    dtype: bfloat16                            # default: of each parameter the widest type of the models
    rounding: stochastic                       # default: nearest

A value is a number, a list (spread over the layers and interpolated), or a list of {filter, value} of which the first
whose `filter` occurs in the parameter's name counts, one without filter always.  What is given closest counts: a
slice's source, the slice, the model, the whole.  Unlike mergekit, an unknown key is refused, and arithmetic is in fp32
whatever `dtype` says.  What is not given has this project's default, which is FuseChat's and not always mergekit's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from fusion.merge import MERGE_RULES, MergeRule
from fusion.merge.parameter import Context
from fusion.merge.recipes import foreign
from fusion.merge.recipes.located import located, path_of, same_model, trained_on_another
from fusion.merge.recipes.values import AmongLayers, first_given, for_all
from fusion.runtime.configure import Refusal, nearest, typed
from fusion.runtime.precision import ITEM_BYTES, LostUpdate, Rounding
from fusion.runtime.reading import read_yaml

# A recipe's methods: our rules, and mergekit's names for one of them with some fields set.
_METHODS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    **{name: (name, {}) for name in MERGE_RULES},
    **{other: (name, given) for name, rule in MERGE_RULES.items() for other, given in rule.in_recipes.methods.items()},
}


@dataclass(frozen=True, kw_only=True)
class RecipeModel:
    """One entry of `models`."""

    model: str
    name: str | None = None
    """What mergekit calls it by; it has no effect."""
    parameters: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """One model in a slice: its layers from the first of `layer_range` to before the second."""

    model: str
    layer_range: tuple[int, int]
    parameters: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True)
class RecipeSlice:
    """A run of layers and what counts within it."""

    sources: tuple[RecipeSource, ...]
    parameters: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The file's keys: first mergekit's, then ours."""

    merge_method: str
    base_model: str | None = None
    models: tuple[RecipeModel, ...] | None = None
    slices: tuple[RecipeSlice, ...] | None = None
    parameters: Mapping[str, object] | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    name: str | None = None
    """What mergekit calls the merge; it has no effect."""
    seed: int = 0
    rounding: Rounding = "nearest"
    """How numbers are rounded to the type that is written."""
    lost_update: LostUpdate = "warn"
    """What is done when rounding the weights loses more than a hundredth of the update."""
    embeddings: Literal["refuse", "cut"] = "refuse"
    """What is done with a target's embeddings of more rows than the pivot's; `cut` takes the first."""
    tokenizer: Literal["equal", "pivot"] = "equal"
    """`pivot` leaves the tokenizers uncompared."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Layers `first` to before `end` and the settings within, nearest first: for each target, then for the rule."""

    first: int
    end: int | None
    targets: tuple[tuple[Mapping[str, object], ...], ...]
    rule: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, kw_only=True)
class RecipeRules:
    """The rule for each parameter, as a recipe's gradients and filters have it."""

    rule: str
    fixed: Mapping[str, object]
    stretches: tuple[Stretch, ...]
    made: dict[str, MergeRule] = field(default_factory=dict, repr=False, compare=False)

    def rule_for(self, context: Context) -> MergeRule:
        """An entry of MERGE_RULES with the hyperparameters of this parameter; equal ones are one object.

        Raises Refusal for a value out of range and for a layer that no slice covers.
        """
        stretch, layer, layers = self._place(context)
        settings: dict[str, object] = dict(self.fixed)
        stands = MERGE_RULES[self.rule].in_recipes
        place = AmongLayers(name=context.name, layer=layer, layers=layers, after=context.after)
        first = partial(first_given, place=place, lists=stands.lists)
        for key in _keys(stretch.rule):
            if key not in stands.per_target:
                value = first(stretch.rule, key)
                if value is not None:
                    settings[key] = value
        for key in stands.per_target:
            levels = [(*own, *stretch.rule) for own in stretch.targets]
            values = [first(level, key) for level in levels]
            given = [value for value in values if value is not None]
            if given and len(given) < len(values):
                raise Refusal(
                    f"{key} is given for some models and not for all ({context.name}): give it for each, or for all"
                )
            if given:
                settings[key] = tuple(values)
        spelled = repr(sorted(settings.items(), key=lambda item: item[0]))
        if spelled not in self.made:
            self.made[spelled] = typed(settings, MERGE_RULES[self.rule], at="parameters")
        return self.made[spelled]

    def _place(self, context: Context) -> tuple[Stretch, int | None, int | None]:
        """The stretch of a parameter, and where it is among the layers that a gradient is spread over."""
        if context.layer is None:  # what lies before the layers goes with the first slice, the rest with the last
            return self.stretches[-1 if context.after else 0], None, None
        if not context.in_language:  # slices count the language model's layers; gradients, each stack's own
            return self.stretches[0], context.layer, context.layers
        for stretch in self.stretches:
            end = context.layers if stretch.end is None else stretch.end
            if (end or 0) > (context.layers or 0):
                raise Refusal(
                    f"layer_range [{stretch.first}, {end}] goes beyond the models' layers, of which there are"
                    f" {context.layers}: end it at {context.layers}"
                )
            if stretch.first <= context.layer < (end or 0):
                return stretch, context.layer - stretch.first, (end or 0) - stretch.first
        raise Refusal(
            f"no slice covers layer {context.layer} ('{context.name}'): slices must cover all {context.layers} layers"
        )


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """A recipe ready to be merged; `notes` say what a reader coming from mergekit might not expect."""

    pivot: Path
    targets: tuple[Path, ...]
    adapted: Mapping[Path, tuple[Path, Path]]
    """Of those among them that are no directories yet, the base and the adapter."""
    rules: RecipeRules
    dtype: str | None
    recipe: Recipe
    notes: tuple[str, ...]


_Run = tuple[int, int | None, list[str], list[dict[str, object]], list[dict[str, object]], dict[str, object]]


def read_recipe(file: Path) -> MergePlan:
    """Read and check a recipe; raises Refusal for whatever in it is unknown, mistyped, missing or out of range."""
    loaded = read_yaml(file, expected="a recipe of a merge")
    if not isinstance(loaded, Mapping):
        raise Refusal(f"the recipe {file} is no mapping: expected keys such as merge_method, base_model and models")
    return plan(typed(foreign.translated(loaded), Recipe, at="recipe"), near=file.parent)


def plan(recipe: Recipe, *, near: Path) -> MergePlan:
    """Resolve a recipe's names; relative directories are looked up from here, then from `near`."""
    if recipe.merge_method not in _METHODS:
        foreign.refuse_method(recipe.merge_method, _METHODS)
        raise Refusal(f"merge_method is {recipe.merge_method!r}: {nearest(recipe.merge_method, _METHODS)}")
    rule, fixed = _METHODS[recipe.merge_method]
    dtype = recipe.out_dtype or recipe.dtype
    if dtype is not None and dtype not in ITEM_BYTES:
        raise Refusal(f"dtype is {dtype!r}: {nearest(dtype, ITEM_BYTES)}")
    notes: list[str] = []
    whole = _translated(rule, recipe.parameters, "parameters", notes)
    if (recipe.models is None) == (recipe.slices is None):
        raise Refusal("a recipe has either models or slices: give one of them")
    models: list[str]
    runs: list[_Run]
    if recipe.models is not None:
        models = [entry.model for entry in recipe.models]
        own = [
            _translated(rule, entry.parameters, f"models[{i}].parameters", notes)
            for i, entry in enumerate(recipe.models)
        ]
        runs = [(0, None, models, own, [{} for _ in models], {})]
    else:
        runs = _runs(rule, recipe.slices or (), notes)
        models = runs[0][2] if runs else []
    if not models:
        raise Refusal("the recipe names no model: give at least one under models")
    base = recipe.base_model
    stands = MERGE_RULES[rule].in_recipes
    if base is None and stands.models_without_base == 0:
        raise Refusal(f"{recipe.merge_method} needs base_model: the pivot that the models were trained from")
    if base is None and stands.models_without_base not in (None, len(models)):
        raise Refusal(
            f"{recipe.merge_method} without base_model needs {stands.models_without_base} models, and the recipe has"
            f" {len(models)}"
        )
    adapted: dict[Path, tuple[Path, Path]] = {}
    pivot = located(base or models[0], None, near, adapted)
    places = [located(model, base, near, adapted) for model in models]
    of_base = [base is not None and same_model(place, pivot, adapted) for place in places]
    keep = [i for i in range(len(models)) if stands.base_counts or not of_base[i]]
    if not keep:
        raise Refusal(f"the recipe names no model besides base_model {base}: give at least one target")
    kept = tuple(places[i] for i in keep)
    adapted = {place: parts for place, parts in adapted.items() if place in (pivot, *kept)}
    notes += filter(None, (trained_on_another(below, adapter, near) for below, adapter in adapted.values()))
    stretches = []
    for first, end, _, own, nearer, within in runs:
        for i, model in enumerate(models):
            if i not in keep and (own[i] or nearer[i]):
                notes.append(f"{model} is the base_model, so its parameters have no effect")
        for settings in (*own, *nearer):
            _refuse_not_per_target(rule, settings)
        targets = tuple((nearer[i], within, own[i]) for i in keep)
        stretches.append(Stretch(first=first, end=end, targets=targets, rule=(within, whole)))
    notes += _open_defaults(rule, fixed, stretches)
    files_of, _ = adapted.get(pivot, (pivot, None))
    source = recipe.tokenizer_source or "base"
    if source != "base" and not (path_of(source, near).is_dir() and path_of(source, near).samefile(files_of)):
        raise Refusal(
            f"tokenizer_source is {recipe.tokenizer_source!r}: targets of one pivot share its tokenizer, which is"
            " copied; leave the key out, or set base"
        )
    return MergePlan(
        pivot=pivot,
        targets=kept,
        adapted=adapted,
        rules=RecipeRules(rule=rule, fixed=fixed, stretches=tuple(stretches)),
        dtype=dtype,
        recipe=recipe,
        notes=tuple(notes),
    )


def _runs(rule: str, slices: Sequence[RecipeSlice], notes: list[str]) -> list[_Run]:
    runs: list[_Run] = []
    expected = 0
    for number, part in enumerate(slices):
        at = f"slices[{number}]"
        ranges = {source.layer_range for source in part.sources}
        if not part.sources or len(ranges) != 1:
            raise Refusal(
                f"{at} takes layers {sorted(ranges)}: stacking layers of one model on another's is not merging; give"
                " every source one layer_range"
            )
        first, end = part.sources[0].layer_range
        if first != expected or end <= first:
            raise Refusal(
                f"{at} has layer_range [{first}, {end}]: expected it to start at {expected}, where the last one ended;"
                " layers keep their places"
            )
        expected = end
        models = [source.model for source in part.sources]
        if runs and models != runs[0][2]:
            raise Refusal(f"{at} names other models than slices[0]: every slice needs the same models in one order")
        nearer = [
            _translated(rule, source.parameters, f"{at}.sources[{i}].parameters", notes)
            for i, source in enumerate(part.sources)
        ]
        within = _translated(rule, part.parameters, f"{at}.parameters", notes)
        runs.append((first, end, models, [{} for _ in models], nearer, within))
    return runs


def _translated(rule: str, parameters: Mapping[str, object] | None, at: str, notes: list[str]) -> dict[str, object]:
    """mergekit's spelling of hyperparameters to our fields; raises Refusal for a name that is neither."""
    fields = {entry.name: entry.default for entry in dataclasses.fields(MERGE_RULES[rule])}
    respelled = MERGE_RULES[rule].in_recipes.respelled
    translated: dict[str, object] = {}
    for key, value in (parameters or {}).items():
        if value is None:  # as if it were not given
            continue
        if key == "int8_mask":
            notes.append("int8_mask only saves memory in mergekit and has no effect here")
        elif key == "lambda" and "scale" in fields:
            translated["scale"] = value
        elif key in respelled and (isinstance(value, (bool, int, float)) or key not in fields):
            translated[respelled[key].field] = respelled[key].values[_boolean(value, f"{at}.{key}")]
            if value and respelled[key].note:
                notes.append(respelled[key].note)
        elif key in fields:
            yes_or_no = isinstance(fields[key], bool) and isinstance(value, (int, float))
            translated[key] = _boolean(value, f"{at}.{key}") if yes_or_no else value
        else:
            spellings = {*fields, *respelled} | ({"lambda"} if "scale" in fields else set())
            raise Refusal(f"unknown key '{at}.{key}' for {rule}: {nearest(str(key), spellings)}")
    return translated


def _boolean(value: object, at: str) -> bool:
    if not isinstance(value, (bool, int, float)) or value not in (0, 1):  # mergekit's are numbers too
        raise Refusal(f"{at} is {value!r}: expected true or false")
    return bool(value)


def _refuse_not_per_target(rule: str, settings: Mapping[str, object]) -> None:
    for key in settings:
        if key not in MERGE_RULES[rule].in_recipes.per_target:
            raise Refusal(
                f"{key} of {rule} is one setting for all models: move it from the model to the recipe's parameters"
            )


def _keys(levels: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for level in levels for key in level))


def _open_defaults(rule: str, fixed: Mapping[str, object], stretches: Sequence[Stretch]) -> list[str]:
    """A word for each setting that mergekit has otherwise and that is not given for every parameter."""
    fields = {entry.name: entry.default for entry in dataclasses.fields(MERGE_RULES[rule])}
    found = []
    for key, other in MERGE_RULES[rule].in_recipes.mergekit_defaults.items():
        lines = [(fixed, *own, *stretch.rule) for stretch in stretches for own in stretch.targets]
        values = [[level[key] for level in line if key in level] for line in lines]
        if all(any(map(for_all, line)) for line in values):
            continue
        where = "for every parameter" if any(values) else ""
        found.append(" ".join(f"{key} is not given {where}".split()) + f": {fields[key]} here, in mergekit {other}")
    return found
