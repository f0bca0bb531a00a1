"""The merge rules: one file each, one frozen dataclass, whose fields are the hyperparameters.

    rule.py               what a merge rule is
    linear.py             the weighted mean
    slerp.py              along the arc between two models
    task_arithmetic.py    the pivot moved along a weighted sum of task vectors
    ties.py               trim, elect a sign, merge what agrees
    dare.py               drop at random, rescale the rest
    varm.py               weighted by how much the parameters moved
    sce.py                select, calculate, erase

To add one: a file here, a line in MERGE_RULES below, a file in conf/merge.
"""

from __future__ import annotations

from collections.abc import Mapping

from fusion.merge.rules.dare import Dare
from fusion.merge.rules.linear import Linear
from fusion.merge.rules.rule import MergeRule
from fusion.merge.rules.sce import Sce
from fusion.merge.rules.slerp import Slerp
from fusion.merge.rules.task_arithmetic import TaskArithmetic
from fusion.merge.rules.ties import Ties
from fusion.merge.rules.varm import Varm

MERGE_RULES: Mapping[str, type[MergeRule]] = {
    "linear": Linear,
    "slerp": Slerp,
    "task_arithmetic": TaskArithmetic,
    "ties": Ties,
    "dare": Dare,
    "varm": Varm,
    "sce": Sce,
}
