"""At which precision weights are held at each step, and how much of what training changed survives there.

A step of bfloat16 beside a weight of 0.05 is 2.4e-4, and what fine-tuning adds to such a weight is often a tenth of
that: rounded to the nearest bfloat16 number, most entries of a merged model are the pivot's again.  So every place
that rounds weights measures what it keeps of the update, model minus pivot, and says so where that is too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fusion.runtime.configure import Refusal

Dtype = Literal["float64", "float32", "bfloat16", "float16"]
Rounding = Literal["nearest", "stochastic"]
LostUpdate = Literal["warn", "refuse", "allow"]

ITEM_BYTES: Mapping[str, int] = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
TORCH_NAMES: Mapping[str, str] = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Of the types as safetensors spells them."""
NARROW: tuple[Dtype, ...] = ("bfloat16", "float16")  # what servers take wider weights down to
# An update that keeps less of its direction or of its length is told about.
ENOUGH = 0.99


@dataclass(frozen=True, kw_only=True)
class MergedConfig:
    """How merged weights are written, whatever the rule; the defaults round nothing that the models' files hold."""

    dtype: Dtype | None = None
    """Of all floating parameters; None: of each the widest that the pivot and the targets have."""
    rounding: Rounding = "nearest"
    """To bfloat16 and float16: to the nearest number, or up or down at random so that the mean is kept."""

    @property
    def decides(self) -> tuple[Mapping[str, object], ...]:
        """What of it can change the written bytes: nothing where the defaults hold."""
        dense = self.dtype is not None and ITEM_BYTES[self.dtype] > 2
        rounding = "nearest" if dense else self.rounding
        if self.dtype is None and rounding == "nearest":
            return ()
        return ({"dtype": self.dtype, "rounding": rounding},)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is left of an update, model minus pivot, when both are held at some precision."""

    cosine: float | None
    """Of what is left with the whole update; None where either is zero."""
    norm_ratio: float | None
    """The L2 norm of what is left by that of the whole update; None where the latter is zero."""
    moved: float
    """The share of all entries that are not the pivot's there."""

    @property
    def enough(self) -> bool:
        """Whether direction and length are kept; so it is where nothing was changed."""
        if self.norm_ratio is None:
            return True
        return (self.cosine or 0.0) >= ENOUGH and self.norm_ratio >= ENOUGH

    def __str__(self) -> str:
        cosine = "undefined" if self.cosine is None else f"{self.cosine:.3g}"
        ratio = "undefined" if self.norm_ratio is None else f"{self.norm_ratio:.3g}"
        return f"cosine {cosine}, norm ratio {ratio}, {self.moved:.1%} of the entries moved"


def widest(dtypes: Iterable[str]) -> str:
    """The narrowest type that holds all numbers of these: float32 for bfloat16 beside float16.

    Raises ValueError when there is none given.
    """
    found = set(dtypes)
    if not found:
        raise ValueError("no dtypes: expected at least one")
    if "float64" in found:
        return "float64"
    return found.pop() if len(found) == 1 else "float32"


def spelled(dtypes: Iterable[str]) -> str:
    """The types of a checkpoint's parameters as one word, or as several where they differ."""
    return ", ".join(sorted(set(dtypes)))


def kept_as_stored(facts: Mapping[str, Any]) -> Kept | None:
    """What a checkpoint's own files keep, from the facts of the stage that wrote it; None where it measured nothing."""
    return _kept(facts, "stored")


def kept_as_served(facts: Mapping[str, Any], served: str | None) -> Kept | None:
    """What is left where the files are computed with in `served`; None where nobody knows it, as of bfloat16 files in
    float16: what is measured is the files, and of wider ones what 16 bits keep.
    """
    stored = str((facts.get("dtype") or {}).get("stored", "")).split(", ")
    if served is None or stored == [""]:
        return None
    return _kept(facts, "stored" if widest([served, *stored]) == served else served)


def _kept(facts: Mapping[str, Any], held: str) -> Kept | None:
    found = (facts.get("update") or {}).get(held)
    return None if found is None else Kept(**found)


def check_update(what: str, kept: Kept | None, way_out: str, policy: LostUpdate, say: Callable[[str], None]) -> None:
    """Say, or by `policy` refuse, that `what` keeps too little of an update.  Raises Refusal with the figures."""
    if kept is None or kept.enough or policy == "allow":
        return
    told = f"{what} loses a part of what training changed ({kept}; 1 is all of it)"
    if policy == "refuse":
        raise Refusal(f"{told}: {way_out}, or set lost_update: warn")
    say(f"{told}: {way_out}")
