"""A control: fused targets that keep a source's confidence and lose what it knows (fusion.fuse.shuffle)."""

from __future__ import annotations

from fusion.fuse.stage import shuffle_stage
from fusion.runtime.artifacts import Artifact
from fusion.tasks.learner import Learner, Task, Taught


class Shuffled(Task):
    """Fused targets, the alternatives drawn anew wherever a source teaches."""

    reads_sources = True

    def teacher(self, learner: Learner, made: Taught) -> Artifact:
        """The learner's fused targets, shuffled with the experiment's seed."""
        fused = made.fused(learner.sources)
        return made.produce(shuffle_stage(made.pivot_represented(), fused, what=learner.row, seed=made.seed))
