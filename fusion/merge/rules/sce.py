"""SCE: Select, Calculate, Erase (Wan et al., arXiv 2408.07990, equations 5 to 9), each parameter for itself.

    Select     M = 1 at the floor(tau * n) positions of largest variance over the targets' deltas,
               n the number of positions whose variance is not zero
    Calculate  eta_k = sum (M delta_k)^2 / sum_j sum (M delta_j)^2
    Erase      s = sgn(sum_k v_k), zero electing plus; entries of the other sign are dropped
    theta = theta_0 + sum_k eta_k v_k 1[sgn v_k = s] / D

Three programs carry the name, and differ by far more than rounding; `reading` says which:

    |             | paper     | fuseai (the authors' code)            | mergekit                                   |
    | v_k         | M delta_k | delta_k: M shapes eta and nothing else | M delta_k                                  |
    | D           | 1         | the surviving eta's sum, 1 if that is 0 | the surviving eta's sum, at least 1e-6     |
    | eta uniform | if all v_k are 0 | if all v_k are 0               | if sum_k mean (M delta_k)^2 is below 1e-6  |

In all three, tau = 1 selects everything (as both programs do), also where all targets agree.  Among positions of equal
variance at the threshold `count` decides; the programs keep an exact number and break ties by sort order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fusion.merge.mergekit import InRecipes
from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule
from fusion.merge.task_vector import elected_sum, shares, spread, vote, weighted_sum
from fusion.merge.threshold import Count, Threshold, largest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TINY = 1e-30
_MERGEKIT_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Sce(PiecewiseRule):
    """Each of the three steps can be left out."""

    in_recipes: ClassVar[InRecipes] = InRecipes(mergekit_defaults={"select_topk": 1.0, "reading": "mergekit"})

    select_topk: float = 0.1
    """tau."""
    reading: Literal["paper", "fuseai", "mergekit"] = "paper"
    """Whose program, as above."""
    select: bool = True
    calculate: bool = True
    """False: eta is uniform."""
    erase: bool = True
    count: Count = "at_least"
    """Which of equal variances at the threshold are selected."""

    def __post_init__(self) -> None:
        if not 0 <= self.select_topk <= 1:
            raise ValueError(f"select_topk is {self.select_topk}: expected a fraction of the positions, 0 to 1")

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The variance that a position needs, and eta."""
        threshold = None
        if self.select and self.select_topk < 1:
            (threshold,) = largest(
                [parameter],
                lambda piece: [spread(piece)],
                lambda series, total, nonzero: int(self.select_topk * nonzero),
                count=self.count,
            ) or (None,)
        return Measured(weights=self._eta(parameter, threshold), facts={"threshold": threshold})

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """Erase, and the sum above."""
        eta = measured.weights
        vectors = piece.deltas
        if self.reading != "fuseai":
            vectors = _selected(piece, measured.facts["threshold"])
        elected = vote(vectors, [1.0] * len(vectors))
        if not self.erase:
            return Combined(weighted_sum(vectors, eta).add_(piece.pivot), vectors, elected)
        divisor = {"paper": None, "fuseai": _TINY, "mergekit": _MERGEKIT_FLOOR}[self.reading]
        merged = elected_sum(vectors, eta, elected, mean_above=divisor)
        return Combined(merged.add_(piece.pivot), vectors, elected)

    def _eta(self, parameter: Parameter, threshold: Threshold | None) -> tuple[float, ...]:
        import torch

        energies = [0.0] * parameter.targets
        if self.calculate:
            for piece in parameter.pieces():
                for k, vector in enumerate(_selected(piece, threshold)):
                    energies[k] += float(torch.dot(vector, vector))
            if self.reading == "mergekit" and sum(energies) / max(parameter.elements, 1) < _MERGEKIT_FLOOR:
                energies = [0.0] * parameter.targets
        return shares(energies)


def _selected(piece: Piece, threshold: Threshold | None) -> Tensor:
    """M delta_k."""
    if threshold is None:
        return piece.deltas
    return piece.deltas * threshold.mask(spread(piece), piece.start)
