"""Linear: the weighted mean of the targets, also known as a model soup (Wortsman et al., arXiv 2203.05482).

    theta = sum_k w_k theta_k / sum_k w_k

The pivot takes no part; list it among the targets to give it a weight.  FuseChat's config gives each target 0.2 and
normalises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fusion.merge.mergekit import InRecipes
from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule, per_target
from fusion.merge.task_vector import normalized, weighted_sum

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Linear(PiecewiseRule):
    """`weight`: one number, or one for each target.  With `normalize` the weights are divided by their sum."""

    in_recipes: ClassVar[InRecipes] = InRecipes(
        per_target=frozenset({"weight"}),
        models_without_base=None,
        base_counts=True,
        mergekit_defaults={"weight": "none, it is required"},
    )

    weight: float | tuple[float, ...] = 0.2
    normalize: bool = True

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The weights."""
        weights = per_target(self.weight, parameter.targets, "weight")
        return Measured(weights=normalized(weights) if self.normalize else weights)

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """The formula above."""
        return Combined(weighted_sum(piece.rows[1:], measured.weights))
