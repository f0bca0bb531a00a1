"""Of each entry the target's that moved furthest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fusion.merge.mergekit import InRecipes
from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule, per_target

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Furthest(PiecewiseRule):
    """`scale`: of the way that it moved; `handicap`: what a target's way is multiplied by where they are compared."""

    in_recipes: ClassVar[InRecipes] = InRecipes(
        per_target=frozenset({"handicap"}), methods={"half_of_furthest": {"scale": 0.5}}
    )

    scale: float = 1.0
    handicap: float | tuple[float, ...] = 1.0

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The handicaps."""
        return Measured(weights=per_target(self.handicap, parameter.targets, "handicap"))

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """theta_0 + scale * delta of the largest magnitude."""
        handicap = piece.deltas.new_tensor(measured.weights)[:, None]
        winner = (handicap * piece.deltas.abs()).argmax(0, keepdim=True)
        return Combined(piece.pivot + self.scale * piece.deltas.gather(0, winner)[0])
