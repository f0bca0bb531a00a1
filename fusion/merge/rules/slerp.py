"""Slerp: from one model to another along the arc between them (Shoemake 1985), each parameter one flat vector.

    theta = sin((1 - t) Omega) / sin(Omega) * a + sin(t Omega) / sin(Omega) * b,   cos(Omega) = <a, b> / |a| |b|

Nearly parallel vectors (|cos| above `parallel`), where the sines cancel, are interpolated linearly; models fine-tuned
from one pivot are so close that this is the usual case, so slerp of such models is hardly more than a weighted mean.

Slerp is between two models.  With two targets a is the first and b the second.  With one target a is the pivot and b
the target.  More are refused unless `pair` says which two: repeated slerps would depend on their order.
FuseChat v1 merged its two targets with t changing over the layers, and other t for attention than for the MLP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fusion.merge.mergekit import InRecipes
from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule
from fusion.merge.task_vector import weighted_sum
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Slerp(PiecewiseRule):
    """`t`: 0 gives a, 1 gives b; a list is spread over the layers, first to last, and interpolated linearly between.

    `t_where` maps a part of a parameter's name to a t of its own; the first that occurs in the name wins.  Before the
    layers a list counts with its first entry, after them with its last, as in mergekit.
    """

    in_recipes: ClassVar[InRecipes] = InRecipes(
        lists=frozenset({"pair", "t_where"}),
        models_without_base=2,
        mergekit_defaults={"t": "none, it is required"},
    )

    t: float | tuple[float, ...] = 0.5
    t_where: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    pair: tuple[int, int] | None = None
    parallel: float = 0.9995

    def __post_init__(self) -> None:
        for part, value in [("t", self.t), *self.t_where.items()]:
            if isinstance(value, Sequence) and not value:
                raise ValueError(f"{part} is an empty list: give one number, or one for each part of the layers")
        if not 0 < self.parallel <= 1:
            raise ValueError(f"parallel is {self.parallel}: expected a cosine above 0, at most 1")
        if self.pair is not None and (self.pair[0] == self.pair[1] or min(self.pair) < 0):
            raise ValueError(f"pair is {list(self.pair)}: expected two different targets, counted from 0")

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The two coefficients, from the angle between the vectors.  Raises Refusal for other targets than a pair."""
        import torch

        pair = self._pair(parameter.targets)
        dot = first = second = 0.0
        for piece in parameter.pieces():
            a, b = _ends(piece, pair)
            dot += float(torch.dot(a, b))
            first += float(torch.dot(a, a))
            second += float(torch.dot(b, b))
        cosine = dot / math.sqrt(first * second) if first > 0 and second > 0 else 1.0
        t = self._at(context)
        coefficients = (1 - t, t)
        if abs(cosine) <= self.parallel:
            omega = math.acos(cosine)
            coefficients = (math.sin((1 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega))
        weights = [0.0] * parameter.targets
        for which, coefficient in zip(pair, coefficients, strict=True):
            if which is not None:
                weights[which] = coefficient
        return Measured(weights=tuple(weights), facts={"pair": pair, "coefficients": coefficients})

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """The formula above."""
        import torch

        ends = torch.stack(_ends(piece, measured.facts["pair"]))
        return Combined(weighted_sum(ends, measured.facts["coefficients"]))

    def _pair(self, targets: int) -> tuple[int | None, int]:
        if self.pair is not None:
            if max(self.pair) >= targets:
                raise Refusal(f"slerp's pair is {list(self.pair)} and there are {targets} targets, counted from 0")
            return self.pair
        if targets > 2:
            raise Refusal(
                f"slerp is defined between two models and got {targets} targets: choose two with pair: [0, 1], or merge"
                " all of them by another rule"
            )
        return (0, 1) if targets == 2 else (None, 0)

    def _at(self, context: Context) -> float:
        value = next((t for part, t in self.t_where.items() if part in context.name), self.t)
        if isinstance(value, (int, float)):
            return float(value)
        return gradient(value, context.layer, context.layers, after=context.after)


def gradient(values: Sequence[float], layer: int | None, layers: int | None, *, after: bool = False) -> float:
    """A list spread evenly over the layers, at one of them; its first entry before the layers, its last `after` them.

    One layer alone has the last, as in mergekit.
    """
    if layer is None or not layers:
        return float(values[-1] if after else values[0])
    if layers == 1 or len(values) == 1:
        return float(values[-1])
    position = layer / (layers - 1) * (len(values) - 1)
    below = min(int(position), len(values) - 2)
    return values[below] + (position - below) * (values[below + 1] - values[below])


def _ends(piece: Piece, pair: tuple[int | None, int]) -> tuple[Tensor, Tensor]:
    a, b = pair
    return (piece.pivot if a is None else piece.targets[a]), piece.targets[b]
