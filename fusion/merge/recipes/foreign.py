"""mergekit's own words in a recipe: those that mean what is done here anyway, and those that are not offered.

docs/mergekit.md has all of them in a table, which is held to these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fusion.runtime.configure import Refusal

# Methods of mergekit 0.1.5 that are none of the rules here, and what they would do.
METHODS: Mapping[str, str] = {
    "breadcrumbs": "leaves out the smallest and the largest of each task vector's entries",
    "breadcrumbs_ties": "leaves out the smallest and the largest of each task vector's entries, then elects signs",
    "della": "drops a task vector's entries at random, small ones more often, then elects signs",
    "della_linear": "drops a task vector's entries at random, small ones more often",
    "model_stock": "takes a mean between pivot and targets by the angle of their task vectors",
    "nearswap": "moves a model to another where both are near",
    "nuslerp": "turns task vectors into each other on a sphere, in another way than slerp",
    "multislerp": "takes the mean of several models on a sphere",
    "karcher": "takes the Karcher mean of several models on a sphere",
    "arcee_fusion": "takes over only entries that changed by much",
    "passthrough": "stacks layers of models on each other, which makes a model of another depth",
    "ram": "merges what one task moved and what several did in two ways",
    "ramplus_tl": "merges what one task moved and what several did in two ways",
}
_MIXTURE = "models are merged to one of their own size, not put side by side as a mixture's experts; use mergekit-moe"
# Keys of a recipe that are not offered, and the way to what they do.
KEYS: Mapping[str, str] = {
    "chat_template": "the merged model has the pivot's chat template; put another chat_template.jinja into the merged"
    " directory, or into the pivot's before",
    "modules": "a model of several modules is merged as one; give its models under models",
    "lora_merge_dtype": "adapters are applied in fp32; leave the key out",
    "default_slices": "give slices or models",
    "experts": _MIXTURE,
    "gate_mode": _MIXTURE,
    "experts_per_token": _MIXTURE,
    "genome": "it is a search over recipes; sweep over merge rules and their settings with python -m ablations -m",
}
SLICE_KEYS: Mapping[str, str] = {
    "base_model": "all slices have the recipe's base_model",
    "residual_weight": "layers are merged, and none is added to another",
}
# How mergekit's mapping `tokenizer` may read here: the pivot's tokenizer is copied.
_OF_TOKENIZER = "targets of one pivot share its tokenizer, which is copied; leave the key out, or set tokenizer: pivot"


def translated(recipe: Mapping[str, object]) -> dict[str, object]:
    """A recipe's mapping with what mergekit spells otherwise as here.  Raises Refusal for what is not offered."""
    found = {key: value for key, value in recipe.items() if value is not None}
    for key, way in KEYS.items():
        if key in found:
            raise Refusal(f"recipe.{key} is mergekit's and not offered here: {way}")
    tokenizer = found.get("tokenizer")
    if isinstance(tokenizer, Mapping):
        for key in (key for key, value in tokenizer.items() if key != "source" and value is not None):
            raise Refusal(f"recipe.tokenizer.{key} is mergekit's and not offered here: {_OF_TOKENIZER}")
        found["tokenizer"] = "equal"
        found["tokenizer_source"] = tokenizer.get("source") or "base"
    base = found.get("base_model")
    if isinstance(base, Mapping):
        found["base_model"] = _written_model(base, "base_model")
    if "models" in found:
        found["models"] = _with_written_models(found["models"], "models")
    slices = found.get("slices")
    if isinstance(slices, list):
        for key in SLICE_KEYS:
            if any(isinstance(part, Mapping) and part.get(key) is not None for part in slices):
                raise Refusal(f"recipe.slices[].{key} is mergekit's and not offered here: {SLICE_KEYS[key]}")
        found["slices"] = [
            {**part, "sources": _with_written_models(part["sources"], "slices[].sources")}
            if isinstance(part, Mapping) and "sources" in part
            else part
            for part in slices
        ]
    for key in ("dtype", "out_dtype"):
        if isinstance(found.get(key), str):
            found[key] = str(found[key]).removeprefix("torch.")
    return found


def refuse_method(name: str, offered: Collection[str]) -> None:
    """Raises Refusal for a method that is mergekit's own."""
    if name in METHODS:
        raise Refusal(
            f"merge_method {name} is mergekit's and not offered here (it {METHODS[name]}): merge with mergekit, or by"
            f" one of {', '.join(sorted(offered))}"
        )


def number(value: object) -> object:
    """A number that YAML 1.1 reads as text, such as 5e-1, as a number; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _with_written_models(entries: object, at: str) -> object:
    """Entries with a `model` each, in its short form; what is no such list as it is."""
    if not isinstance(entries, list):
        return entries
    return [
        {**entry, "model": _written_model(entry["model"], f"{at}[].model")}
        if isinstance(entry, Mapping) and isinstance(entry.get("model"), Mapping)
        else entry
        for entry in entries
    ]


def _written_model(model: Mapping[str, object], at: str) -> str:
    """mergekit's long form of a model, {model: {path: P}, lora: {path: L}}, in its short one, P+L."""
    inner, lora = model.get("model", model), model.get("lora")
    parts = [part for part in (inner, lora) if isinstance(part, Mapping)]
    if any(part.get("revision") is not None for part in parts):
        raise Refusal(f"recipe.{at} names a revision: merging reads directories, so give that of the revision's files")
    path, adapter = (part.get("path") if isinstance(part, Mapping) else part for part in (inner, lora))
    known = {*model}.union(*parts) <= {"model", "path", "revision", "lora"}
    if not known or not isinstance(path, str) or not (adapter is None or isinstance(adapter, str)):
        raise Refusal(f"recipe.{at} is {dict(model)}: expected a directory, or model: {{path: DIR}}")
    return path if adapter is None else f"{path}+{adapter}"
