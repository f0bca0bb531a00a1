"""A row of the table that is trained from the pivot, and what a task can ask for to teach it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from fusion.runtime.artifacts import Artifact
from fusion.runtime.stage import Stage
from fusion.train.config import TrainConfig

# Between the seeds of two repetitions: more than any sweep has seeds, so that no two of its trainings share one.
_BETWEEN_REPEATS = 1000


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The pivot, to be trained into `row` of the table, in `group`."""

    row: str
    group: str
    # What the row is in the recipe (`fusion.checkpoint.Checkpoint`).
    role: str
    # An entry of TASKS.
    task: str
    # Entries of conf/model whose distributions it learns from; none where it learns from none.
    sources: tuple[str, ...] = ()
    # Which of several trainings under one seed of the experiment.
    repeat: int = 0

    def seeded(self, train: TrainConfig) -> TrainConfig:
        """The training's settings with this repetition's own seed; the first has the experiment's."""
        return replace(train, seed=train.seed + _BETWEEN_REPEATS * self.repeat)


class Taught(Protocol):
    """What an experiment has made or makes on demand, each once: what tasks are given to build teachers from."""

    @property
    def seed(self) -> int:
        """The experiment's."""
        ...

    def pivot_represented(self) -> Artifact:
        """The pivot's own distributions."""

    def fused(self, sources: Sequence[str]) -> Artifact:
        """The pivot's distributions fused with those of `sources`; of none: the pivot's alone."""

    def produce(self, stage: Stage) -> Artifact:
        """What the stage leaves."""


class Task(ABC):
    """One way to learn.  `reads_sources`: whether the sources must have been represented and aligned."""

    reads_sources: ClassVar[bool] = False

    @abstractmethod
    def teacher(self, learner: Learner, made: Taught) -> Artifact | None:
        """The fused targets to learn towards, None where the labels are everything."""

    def settings(self, train: TrainConfig) -> TrainConfig:
        """The training's settings, those set aside that this task never reads: runs that differ in them are one."""
        return train
