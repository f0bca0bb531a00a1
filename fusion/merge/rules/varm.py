"""VaRM: each target weighted by how much its parameters moved (Wan et al., arXiv 2402.16107, equation 7).

    w_k,m = E_m[delta_k^2] / sum_j E_m[delta_j^2],   theta_m = sum_k w_k,m theta_k,m

E_m is the mean over a unit m of the model: a `matrix` (any one parameter, the paper's choice), a `layer`, the whole
`model`, or each `element`.  Where no target moved, all weights are equal.  Parameters outside the layers are units of
their own under `layer`.  The released command reads the same statistics for every target, which makes all weights
equal; this follows the equation.  The released analysis also sums, for a layer, the means of its parameters; here a
layer's entries are pooled as the equation has it.  `unmoved: uniform` is that code's rule that one target which did not
move in a unit makes the unit's weights equal; the equation gives such a target the weight zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fusion.merge.parameter import Combined, Context, Mapper, Measured, Parameter, Piece, SurveyingRule
from fusion.merge.task_vector import moved, shares, weighted_sum

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Varm(SurveyingRule):
    """`statistic` is what E averages: the square of a change, as in the paper, or its magnitude."""

    granularity: Literal["matrix", "layer", "model", "element"] = "matrix"
    statistic: Literal["square", "abs"] = "square"
    unmoved: Literal["zero", "uniform"] = "zero"

    @property
    def surveys(self) -> bool:
        """Whether a unit spans several parameters."""
        return self.granularity in ("layer", "model")

    def survey(self, parameters: Sequence[Parameter], *, map: Mapper = map) -> Mapping[str, tuple[float, ...]]:
        """The weights of every unit."""
        sums: dict[str, list[float]] = {}
        for parameter, found in zip(parameters, map(self._amounts, parameters), strict=True):
            unit = sums.setdefault(self._unit(parameter), [0.0] * parameter.targets)
            for k, amount in enumerate(found):
                unit[k] += amount
        return {unit: self._weights(amounts) for unit, amounts in sums.items()}

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The weights of the parameter's unit; NaN for elements, whose weights are computed where they are used."""
        if self.granularity == "element":
            return Measured(weights=(float("nan"),) * parameter.targets)
        if self.surveys and context.survey is not None:
            return Measured(weights=context.survey[self._unit(parameter)])
        return Measured(weights=self._weights(self._amounts(parameter)))

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """The formula above; as weights sum to one, theta_0 + sum_k w_k delta_k, which rounds less."""
        if self.granularity != "element":
            return Combined(moved(piece, measured.weights))
        import torch

        amounts = piece.deltas.abs() if self.statistic == "abs" else piece.deltas * piece.deltas
        total = weighted_sum(amounts, [1.0] * len(amounts))
        merged = torch.zeros_like(piece.pivot)
        for amount, delta in zip(amounts, piece.deltas, strict=True):
            merged.addcmul_(amount, delta)
        merged = torch.where(total > 0, merged / total, 0.0)
        if self.unmoved == "uniform":
            some_still = amounts.amin(0) == 0
            merged = torch.where(some_still, weighted_sum(piece.deltas, [1.0 / len(amounts)] * len(amounts)), merged)
        return Combined(merged.add_(piece.pivot))

    def _amounts(self, parameter: Parameter) -> list[float]:
        """Sums over the parameter.  Units have equally many entries for every target, so sums weigh as means do."""
        import torch

        sums = [0.0] * parameter.targets
        for piece in parameter.pieces():
            for k, delta in enumerate(piece.deltas):
                sums[k] += float(delta.abs().sum() if self.statistic == "abs" else torch.dot(delta, delta))
        return sums

    def _weights(self, amounts: Sequence[float]) -> tuple[float, ...]:
        if self.unmoved == "uniform" and min(amounts) == 0:
            return (1.0 / len(amounts),) * len(amounts)
        return shares(amounts)

    def _unit(self, parameter: Parameter) -> str:
        if self.granularity == "model":
            return "model"
        return parameter.name if parameter.layer is None else f"layer {parameter.layer}"
