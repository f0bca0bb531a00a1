"""Judges that judge their own kind: models rate what they wrote themselves higher (Panickssery et al. 2404.13076)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from eval.judges.protocol import Member
from fusion.runtime.configure import Refusal


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """`families`: whose model each row of the table is, sources included; what to do when a judge is of one of them."""

    families: Mapping[str, str] = field(default_factory=dict)
    policy: Literal["warn", "refuse", "allow"] = "warn"

    def with_family(self, model: str, family: str | None) -> Kinship:
        """The same, and of whose family a row is where nobody said it yet."""
        return self if family is None else replace(self, families={model: family, **self.families})

    def notes(self, judges: Iterable[Member], own: Mapping[str, Set[str]]) -> list[str]:
        """One sentence per judge that judges kin; `own` are, by the judge's label, the rows that have its very weights.

        Raises Refusal instead where the policy says so.
        """
        found = []
        for judge in judges:
            own_family = judge.kin
            kin = [model for model, family in self.families.items() if own_family and family == own_family]
            kin += sorted(own.get(judge.label, set()) - {*kin})
            if kin:
                is_of = f"of the family {own_family}, as is" if own_family else "itself"
                found.append(f"Self-preference: the judge {judge.label} is {is_of} {', '.join(kin)}.")
        if found and self.policy == "refuse":
            raise Refusal(f"{' '.join(found)} Choose another judge, or set self_preference=warn to go on with a note")
        return [] if self.policy == "allow" else found
