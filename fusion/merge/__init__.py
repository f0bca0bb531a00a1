"""From targets of one structure to one model: the merge rules by name.

A rule is a frozen dataclass: its fields are its hyperparameters, its call merges one parameter.  To add one, write
`fusion/merge/rules/<name>.py` with such a class, name it in MERGE_RULES, and give it `conf/merge/<name>.yaml`; it
meets the properties of `tests/fusion/merge/test_rule_properties.py` from then on.  A rule with no more than
`__call__` works on whole tensors; a `fusion.merge.parameter.PiecewiseRule`, as all of these are, streams.

    parameter.py      one parameter of the pivot and its targets, in pieces
    task_vector.py    what several rules share: weights, and one sign elected at each position
    threshold.py      the k-th largest magnitude, exactly, without sorting
    compiled.py       the loops, compiled
    rules/            the rules
    checkpoints/      a rule applied to whole checkpoints
    stage.py          as a stage of the pipeline
    recipes/          a merge as a file

    python -m fusion.merge recipe=FILE out=DIR [explain=true]      merges checkpoints by a recipe
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from fusion.merge.rules.dare import Dare
from fusion.merge.rules.linear import Linear
from fusion.merge.rules.sce import Sce
from fusion.merge.rules.slerp import Slerp
from fusion.merge.rules.task_arithmetic import TaskArithmetic
from fusion.merge.rules.ties import Ties
from fusion.merge.rules.varm import Varm

if TYPE_CHECKING:
    from dataclasses import Field

    import torch
    from torch import Tensor

    from fusion.merge.parameter import Context


class MergeRule(Protocol):
    """fp32 tensors of one parameter in, one of the pivot's shape out; hyperparameters per target in their order."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]

    def __call__(
        self,
        pivot: Tensor,
        targets: Sequence[Tensor],
        *,
        generator: torch.Generator | None = None,
        context: Context | None = None,
    ) -> Tensor: ...


MERGE_RULES: Mapping[str, type[MergeRule]] = {
    "linear": Linear,
    "slerp": Slerp,
    "task_arithmetic": TaskArithmetic,
    "ties": Ties,
    "dare": Dare,
    "varm": Varm,
    "sce": Sce,
}
