"""How fast a machine works: seconds and bytes for the work of a plan.

Each rate says where it comes from; one that does not begin with "measured" is shown as an estimate.
`python -m ablations.rates` measures the rates of this machine.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusion.runtime.work import Work

# The work that a GPU does where there is one; all other work is a CPU's.
_ON_GPU = ("train", "represent", "answers")
_SPARE = 1.2  # of a GPU's memory beside the weights: activations, cache


@dataclass(frozen=True, kw_only=True)
class Rate:
    """`start` seconds, then `per_second` units of work a second; `bytes_each`: what an item leaves on disk."""

    per_second: float
    start: float = 0.0
    bytes_each: float = 0.0
    source: str

    def __post_init__(self) -> None:
        if not self.per_second > 0 or self.start < 0 or self.bytes_each < 0:
            raise ValueError(
                f"per_second {self.per_second}, start {self.start}, bytes_each {self.bytes_each}: expected more than 0,"
                " and 0 or more"
            )
        if not self.source:
            raise ValueError("source is empty: say where the rate comes from")

    @property
    def measured(self) -> bool:
        return self.source.startswith("measured")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rates of one machine.  `gpu_memory_gb` of each of its GPUs, None where it has none.

    Units: conversations (dialogues, initialise), labelled tokens (align, fuse), floating-point operations (represent,
    train, answers), bytes read (merge), replies (verdicts); on a GPU those are one GPU's.
    """

    machine: str
    gpu_memory_gb: float | None = None
    dialogues: Rate
    initialise: Rate
    represent: Rate
    align: Rate
    fuse: Rate
    train: Rate
    merge: Rate
    answers: Rate
    verdicts: Rate

    def of(self, kind: str) -> Rate | None:
        """The rate of a kind of work, None for one that was not measured."""
        found: Rate | None = getattr(self, kind, None) if kind in kinds() else None
        return found

    def device(self, kind: str) -> str:
        """Which hours a kind of work takes: gpu or cpu."""
        return "gpu" if self.gpu_memory_gb is not None and kind in _ON_GPU else "cpu"

    def hours(self, work: Work) -> float | None:
        """Device-hours; None where the amount or the rate is not known.

        A model that is larger than one GPU holds as many as its weights need.
        """
        rate = self.of(work.kind)
        if work.units is None or rate is None:
            return None if work.kind != "download" else 0.0
        devices = 1
        if self.gpu_memory_gb is not None and self.device(work.kind) == "gpu":
            devices = max(1, math.ceil(_SPARE * work.holds / (self.gpu_memory_gb * 1e9)))
        # Answers come from a server that works on all its GPUs at once; device_map="auto" works on one after the other.
        busy = devices if work.kind == "represent" else 1
        return (devices * rate.start + busy * work.units / rate.per_second) / 3600

    def bytes(self, work: Work) -> float:
        """What stays on disk."""
        rate = self.of(work.kind)
        return work.bytes + (rate.bytes_each * work.items if rate is not None else 0.0)


def kinds() -> list[str]:
    """The kinds of work that a machine has a rate for."""
    return [field.name for field in dataclasses.fields(Rates) if field.name not in ("machine", "gpu_memory_gb")]
