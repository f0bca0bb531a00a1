"""What a checkpoint learns beside the labels: the tasks by name, and the learners of an experiment.

A learner is a row of the table that the pivot is trained into: a target per source, and the baselines.  To add a task:
a file here and a line in TASKS.

    sft                 the labels alone
    fusion              distributions fused from the pivot and the learner's sources
    self_distillation   the pivot's own distributions: a control
    shuffled            fused ones, without what the sources know about the alternatives: a control
"""

from __future__ import annotations

from collections.abc import Mapping

from fusion.tasks.fusion import Fusion
from fusion.tasks.learner import Learner, Task, Taught
from fusion.tasks.self_distillation import SelfDistillation
from fusion.tasks.sft import Sft
from fusion.tasks.shuffled import Shuffled

TASKS: Mapping[str, Task] = {
    "sft": Sft(),
    "fusion": Fusion(),
    "self_distillation": SelfDistillation(),
    "shuffled": Shuffled(),
}

__all__ = ["TASKS", "Learner", "Task", "Taught"]
