"""Fusion: towards one distribution per position, fused from the pivot's and the sources' (FuseChat, section 3.2)."""

from __future__ import annotations

from fusion.runtime.artifacts import Artifact
from fusion.tasks.learner import Learner, Task, Taught


class Fusion(Task):
    """One source makes a target; all at once make the papers' Multi."""

    reads_sources = True

    def teacher(self, learner: Learner, made: Taught) -> Artifact:
        """The learner's sources fused with the pivot."""
        return made.fused(learner.sources)
