"""How fast a machine works: seconds and bytes for the work of a plan, and how such rates are measured.

    python -m ablations.rates experiment=pocket machine='two old cores' out=conf/rates/mine.yaml

measures them from the manifests of a finished run in the store.  Each rate says where it comes from; one that does not
begin with "measured" is shown as an estimate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.runtime.command import command
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from ablations.plan.store import PlannedStage
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
        found: Rate | None = getattr(self, kind, None) if kind in _kinds() else None
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


def measured(stages: Iterable[PlannedStage], machine: str, made_by: str) -> Rates:
    """The rates of a finished run: each kind's seconds and bytes over its work.

    Where stages of a kind differ by half in size, the time to start is separated from the time for the work by least
    squares.  Raises Refusal for a kind of which no stage is finished.
    """
    found: dict[str, list[tuple[Work, Mapping[str, Any]]]] = {kind: [] for kind in _kinds()}
    for stage in stages:
        if stage.found is not None and stage.work.kind in found and stage.work.units:
            found[stage.work.kind].append((stage.work, stage.found))
    lacking = [kind for kind, runs in found.items() if not runs]
    if lacking:
        raise Refusal(f"no finished stage tells the rate of {', '.join(lacking)}: finish the experiment first")
    fitted: dict[str, Any] = {kind: _fitted(runs, made_by) for kind, runs in found.items()}
    return Rates(machine=machine, **fitted)


def _fitted(runs: list[tuple[Work, Mapping[str, Any]]], made_by: str) -> Rate:
    import numpy as np

    units = np.array([float(work.units or 0) for work, _ in runs])
    seconds = np.array([max(float(manifest["wall_seconds"]), 1e-3) for _, manifest in runs])
    start, slope = 0.0, float(seconds.sum() / units.sum())
    if units.max() > 1.5 * units.min():
        line_slope, line_start = np.polyfit(units, seconds, 1)
        if line_slope > 0 and line_start > 0:
            start, slope = float(line_start), float(line_slope)
    written = sum(entry["bytes"] for _, manifest in runs for entry in manifest["files"].values())
    items = sum(work.items for work, _ in runs)
    beside = max(0.0, written - sum(work.bytes for work, _ in runs))
    return Rate(
        per_second=_digits(1 / slope),
        start=_digits(start),
        bytes_each=_digits(beside / items) if items else 0.0,
        source=f"measured: {made_by}",
    )


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def _kinds() -> list[str]:
    return [field.name for field in dataclasses.fields(Rates) if field.name not in ("machine", "gpu_memory_gb")]


def run(settings: dict[str, Any]) -> None:
    """Measure the rates of the experiment's finished stages and write them to `out`."""
    import yaml

    from ablations.plan.plan import book_of

    book = book_of([settings])
    made_by = f"experiment={settings['name']}"
    rates = measured(book.stages.values(), str(settings["machine"]), made_by)
    out = Path(settings["out"])
    out.write_text(
        f"# Measured by python -m ablations.rates {made_by} from the manifests of a finished run.\n"
        + yaml.safe_dump(dataclasses.asdict(rates), sort_keys=False, width=110)
    )
    print(out)


if __name__ == "__main__":
    command("measure_rates", run)
