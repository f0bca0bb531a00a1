"""Task arithmetic: the pivot moved along a weighted sum of task vectors (Ilharco et al., arXiv 2212.04089).

    theta = theta_0 + scale * sum_k w_k (theta_k - theta_0)

FuseChat's config gives each target 0.3 and does not normalise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fusion.merge.mergekit import InRecipes
from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule, per_target
from fusion.merge.task_vector import moved, normalized

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(PiecewiseRule):
    """`weight`: one number, or one for each target; `scale` is the paper's lambda."""

    in_recipes: ClassVar[InRecipes] = InRecipes(
        per_target=frozenset({"weight"}),
        mergekit_defaults={"weight": "none, it is required"},
    )

    weight: float | tuple[float, ...] = 0.3
    scale: float = 1.0
    normalize: bool = False

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The weights, scale included."""
        weights = per_target(self.weight, parameter.targets, "weight")
        weights = normalized(weights) if self.normalize else weights
        return Measured(weights=tuple(self.scale * weight for weight in weights))

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """The formula above."""
        return Combined(moved(piece, measured.weights))
