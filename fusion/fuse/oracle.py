"""Oracle: the distributions of the model that is known to be the expert of the conversation's domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.fuse.candidate import Fused, TeacherCandidate, whole


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Choose by what is known of the models: what a rule that always finds the expert would teach (ours).

    The pivot teaches where its domain names no model, and where the model it names is not among the candidates, as in a
    target of another source.  Where the expert says nothing the pivot teaches; where it has the gold token alone, that
    is taught.
    """

    teachers: Mapping[str, str]
    """By a conversation's domain, the label of the model that teaches there."""

    def __call__(self, candidates: Sequence[TeacherCandidate]) -> Fused:
        """The fused distributions of one conversation; candidate 0 is the pivot."""
        expert = self.teachers.get(candidates[0].domain)
        names = [candidate.name for candidate in candidates]
        return whole(candidates, names.index(expert) if expert in names else 0)
