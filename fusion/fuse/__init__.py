"""Fusion rules: from several models' distributions on one conversation to the one that is taught.

A rule is a frozen dataclass; its fields are its hyperparameters, its call takes the candidates of one conversation,
the pivot first, and gives the fused distributions and which candidate taught each.

To add a rule: write it in a file of its own, name it below, and add conf/fuse/<name>.yaml.  In reading order:

    candidate.py      what a rule chooses among, and what it gives
    min_ce.py         MinCE: the model with the lowest cross-entropy
    average_ce.py     AvgCE: all models, mixed by cross-entropy
    min_entropy.py    MinEntropy: the model that is surest, whatever the labels say
    oracle.py         Oracle: the model that is named for the conversation's domain
    shards.py         fused targets on disk
    fuse.py           a rule applied to every conversation
    stage.py          the stage
    shuffle.py        a control: the same confidence, without the sources' knowledge
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fusion.fuse.average_ce import AverageCE
from fusion.fuse.candidate import Fused, TeacherCandidate
from fusion.fuse.min_ce import MinCE
from fusion.fuse.min_entropy import MinEntropy
from fusion.fuse.oracle import Oracle


class FusionRule(Protocol):
    """What every rule can do."""

    def __call__(self, candidates: Sequence[TeacherCandidate]) -> Fused: ...


FUSION_RULES: Mapping[str, type[FusionRule]] = {
    "min_ce": MinCE,
    "average_ce": AverageCE,
    "min_entropy": MinEntropy,
    "oracle": Oracle,
}
