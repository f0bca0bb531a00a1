"""From targets of one structure to one model: the merge rules by name.

A rule is a frozen dataclass: its fields are its hyperparameters, its call merges one parameter.  To add one, write
`fusion/merge/rules/<name>.py` with such a class, name it in MERGE_RULES there, and give it `conf/merge/<name>.yaml`;
it meets the properties of `tests/fusion/merge/test_rule_properties.py` from then on.  A `MergeRule` with no more than
`__call__` works on whole tensors; a `fusion.merge.parameter.PiecewiseRule`, as all of these are, streams.

    mergekit.py       how a rule stands in recipes
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

from fusion.merge.rules import MERGE_RULES
from fusion.merge.rules.rule import MergeRule

__all__ = ["MERGE_RULES", "MergeRule"]
