"""A control: the pivot learns from its own distributions, soft labels without any other model's knowledge."""

from __future__ import annotations

from fusion.runtime.artifacts import Artifact
from fusion.tasks.learner import Learner, Task, Taught


class SelfDistillation(Task):
    """The pivot taught by itself."""

    def teacher(self, learner: Learner, made: Taught) -> Artifact:
        """The pivot's distributions, alone."""
        return made.fused(())
