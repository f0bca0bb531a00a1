"""What a rule that writes is given of an ensemble's members, and what it says of itself.

    rule.row(members)      # answers of its own, by one of the members' verbs

The verbs give whatever a row is to their caller (`eval.ensemble_rows`), which the rule hands through.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Protocol, TypeVar

from eval.ensembles.fusion_of_n import Asks
from eval.ensembles.packllm import Mixes
from eval.ensembles.selection import Made, Need

T = TypeVar("T")


class Members(Asks[Made], Mixes[Made], Protocol[Made]):
    """The members of an ensemble on one benchmark, with all that can be done with them."""


class Writing(Protocol):
    """A rule that writes.  `oracle` and `needs` as of a rule that selects (`eval.ensembles.selection`).

    `together`: whether all members are computed with at once, without a cache of what they read before.
    """

    selects: ClassVar[bool]
    oracle: ClassVar[str]
    needs: ClassVar[frozenset[Need]]
    together: ClassVar[bool]

    def check(self, models: Collection[str]) -> None:
        """Raises Refusal when the rule names a model that is none of the run's."""

    def row(self, members: Members[T]) -> T: ...
