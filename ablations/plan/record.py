"""A plan as a record: its lines, its stages, its charges, and the budget that it is compared with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablations.plan.charges import Charge
    from fusion.planned import PlannedStage


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a run or a sweep may take; None: no limit.  `money` in the currency of the prices."""

    gpu_hours: float | None = None
    cpu_hours: float | None = None
    disk_gb: float | None = None
    judge_tokens: float | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise ValueError(f"{field.name} is {value}: expected 0 or more, or null for no limit")

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Line:
    """The stages of one kind: how many are to be computed, how many are there, and what the former take.

    Hours are None where they are not known; `estimated` says that a rate behind them was not measured.
    """

    stage: str
    compute: int
    reused: int
    gpu_hours: float | None
    cpu_hours: float | None
    bytes: float
    estimated: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan of `cells`.  `working` bytes are needed besides while a stage runs; `notes` say what is not known."""

    experiment: str
    cells: tuple[str, ...]
    machine: str
    lines: tuple[Line, ...]
    stages: tuple[PlannedStage, ...]
    charges: tuple[Charge, ...]
    working: float
    notes: tuple[str, ...]

    def takes(self) -> dict[str, float | None]:
        """The plan under the names of the budget; None: not known."""
        money = [charge.money for charge in self.charges if charge.estimate.replies]
        return {
            "gpu_hours": sum(line.gpu_hours or 0.0 for line in self.lines),
            "cpu_hours": sum(line.cpu_hours or 0.0 for line in self.lines),
            "disk_gb": (sum(line.bytes for line in self.lines) + self.working) / 1e9,
            "judge_tokens": sum(c.estimate.prompt_tokens + c.estimate.completion_tokens for c in self.charges),
            "money": None if None in money else sum(amount for amount in money if amount is not None),
        }
