"""Distillation objectives: what a position costs the student that does not predict as the teacher does.

An objective is a frozen dataclass: its fields are its hyperparameters, its call gives the fusion loss of every labelled
position.  To add one, write `fusion/train/objectives/<name>.py` with such a class, name it in OBJECTIVES, and give it
`conf/objective/<name>.yaml`; it meets the properties of `tests/fusion/train/test_objectives.py` from then on.

`objective.py` says what an objective is given; `outcomes.py` is what those that compare distributions over sparse
outcomes share.  Training imports neither this table nor an objective that it does not use, so that a new entry leaves
the finished runs of the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from fusion.train.objectives.cross_entropy import CrossEntropy
from fusion.train.objectives.kl_divergence import KLDivergence
from fusion.train.objectives.objective import Objective

OBJECTIVES: Mapping[str, type[Objective]] = {
    "ce": CrossEntropy,
    "kl": KLDivergence,
}
