"""TIES: trim each task vector, elect one sign at each position, merge what agrees (Yadav et al., arXiv 2306.01708).

    v_k = delta_k where |delta_k| is among its largest `density`, else 0
    s   = sgn(sum_k w_k v_k), a sum of zero electing plus
    theta = theta_0 + scale * mean_w{v_k : sgn v_k = s}          (aggregate: mean)
          = theta_0 + scale * sum_k w_k v_k 1[sgn v_k = s]       (aggregate: sum)

Implementations differ, so each choice is a field.  `scope`: the paper's code trims the whole model's task vector at
once, mergekit, which FuseChat used, each parameter.  `count`: the paper's code keeps what is at least the threshold,
mergekit an exact number, its ties broken by sort order; here `exactly` keeps the earliest.  The task vectors of gentle
fine-tunes in bf16 lie on so coarse a grid that several percent of them can be equal to the threshold: the kept
fraction is in the coefficient table.  FuseChat's config: density 0.6, weight 0.2, normalised (aggregate: mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fusion.merge.mergekit import InRecipes, Respelled
from fusion.merge.parameter import Combined, Context, Mapper, Measured, Parameter, Piece, SurveyingRule, per_target
from fusion.merge.task_vector import elected_sum, vote
from fusion.merge.threshold import Count, Threshold, largest

if TYPE_CHECKING:
    import torch

_TINY = 1e-30  # below any sum of weights that is not zero; where the sum is zero, so is what it divides


@dataclass(frozen=True, kw_only=True)
class Ties(SurveyingRule):
    """`density` is the fraction of each task vector that is kept, `scale` the paper's lambda.

    `weight` and `density` are one number, or one for each target.
    """

    in_recipes: ClassVar[InRecipes] = InRecipes(
        per_target=frozenset({"weight", "density"}),
        respelled={"normalize": Respelled(field="aggregate", values={True: "mean", False: "sum"})},
        mergekit_defaults={"weight": "none, it is required", "density": 1.0},
    )

    density: float | tuple[float, ...] = 0.6
    weight: float | tuple[float, ...] = 0.2
    scale: float = 1.0
    scope: Literal["tensor", "model"] = "tensor"
    aggregate: Literal["mean", "sum"] = "mean"
    count: Count = "at_least"

    def __post_init__(self) -> None:
        for density in self.density if isinstance(self.density, Sequence) else [self.density]:
            if not 0 <= density <= 1:
                raise ValueError(f"density is {density}: expected a fraction of the entries, 0 to 1")
        if self.aggregate == "mean" and min(self.weight if isinstance(self.weight, Sequence) else [self.weight]) < 0:
            raise ValueError("a negative weight has no place in a mean: set aggregate: sum")
        if self.scope == "model" and self.count == "exactly":
            raise ValueError("count: exactly breaks ties by position within a parameter: use it with scope: tensor")

    @property
    def surveys(self) -> bool:
        """Whether the thresholds are the whole checkpoint's."""
        return self.scope == "model"

    def survey(self, parameters: Sequence[Parameter], *, map: Mapper = map) -> tuple[Threshold, ...]:
        """For each target the magnitude that an entry needs, over all `parameters` together."""
        densities = per_target(self.density, parameters[0].targets, "density")
        return largest(
            parameters,
            lambda piece: piece.deltas,
            lambda target, total, nonzero: int(densities[target] * total),
            count=self.count,
            map=map,
        )

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The weights, and the magnitude that an entry of each task vector needs."""
        weights = per_target(self.weight, parameter.targets, "weight")
        thresholds = context.survey if self.surveys and context.survey is not None else self.survey([parameter])
        return Measured(weights=weights, facts={"thresholds": thresholds})

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """Trim, elect and merge as above."""
        import torch

        vectors = torch.empty_like(piece.deltas)
        for delta, threshold, vector in zip(piece.deltas, measured.facts["thresholds"], vectors, strict=True):
            threshold.trim(delta, piece.start, vector)
        elected = vote(vectors, measured.weights)
        # A negative weight turns its vector around; elect and compare on what is added.
        turned = vectors
        if min(measured.weights) < 0:
            turned = vectors * torch.tensor(measured.weights).sign()[:, None]
        magnitudes = [abs(weight) for weight in measured.weights]
        merged = elected_sum(turned, magnitudes, elected, mean_above=_TINY if self.aggregate == "mean" else None)
        return Combined(merged.mul_(self.scale).add_(piece.pivot), vectors, elected)
