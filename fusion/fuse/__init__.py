"""Fusion rules: from several models' distributions on one conversation to the one that is taught.

A rule is a frozen dataclass; its fields are its hyperparameters, its call takes the candidates of one conversation,
the pivot first, and gives the fused distributions and which candidate taught each.

To add a rule: write it in a file of its own, name it below, and add conf/fuse/<name>.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fusion.fuse.average_ce import AverageCE
from fusion.fuse.candidate import Fused, TeacherCandidate
from fusion.fuse.min_ce import MinCE


class FusionRule(Protocol):
    """What every rule can do."""

    def __call__(self, candidates: Sequence[TeacherCandidate]) -> Fused: ...


FUSION_RULES: Mapping[str, type[FusionRule]] = {"min_ce": MinCE, "average_ce": AverageCE}
