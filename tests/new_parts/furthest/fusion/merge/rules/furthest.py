"""Of each entry the target's that moved furthest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Furthest(PiecewiseRule):
    """`scale`: of the way that it moved."""

    scale: float = 1.0

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """Nothing; every target counts alike."""
        return Measured(weights=(1.0 / parameter.targets,) * parameter.targets)

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """theta_0 + scale * delta of the largest magnitude."""
        winner = piece.deltas.abs().argmax(0, keepdim=True)
        return Combined(piece.pivot + self.scale * piece.deltas.gather(0, winner)[0])
