"""What several rules share: weighting task vectors, and electing one sign at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusion.configure import Refusal

if TYPE_CHECKING:
    from torch import Tensor


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_k w_k x_k, added in the targets' order."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def normalized(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights divided by their sum; raises Refusal when that is zero."""
    total = sum(weights)
    if total == 0:
        raise Refusal(
            f"weights {list(weights)} sum to zero and cannot be normalised: set normalize: false, or change them"
        )
    return tuple(weight / total for weight in weights)


def shares(amounts: Sequence[float]) -> tuple[float, ...]:
    """Non-negative amounts as shares of their sum; equal shares when all are zero."""
    total = sum(amounts)
    if total == 0:
        return (1.0 / len(amounts),) * len(amounts)
    return tuple(amount / total for amount in amounts)


def elected_sign(total: Tensor) -> Tensor:
    """+1 or -1, the sign of a sum of task vectors; a sum of zero elects +1."""
    return total.sign().add_(0.5).sign_()


def elected_sum(vectors: Sequence[Tensor], weights: Sequence[float], sign: Tensor) -> tuple[Tensor, Tensor]:
    """sum_k w_k v_k over the vectors that carry the elected sign, and the sum of their weights, at each position.

    An entry of the elected sign satisfies sign * v > 0, so relu(sign * v) is its magnitude and zero for all others; an
    entry that is zero never takes part.
    """
    import torch

    merged = torch.zeros_like(sign)
    weight_sum = torch.zeros_like(sign)
    for vector, weight in zip(vectors, weights, strict=True):
        agreeing = (sign * vector).relu_()
        merged.add_(agreeing, alpha=weight)
        weight_sum.add_(agreeing.sign_(), alpha=weight)
    return merged.mul_(sign), weight_sum


def spread(tensors: Sequence[Tensor]) -> Tensor:
    """sum_{i<j} (x_i - x_j)^2 = K^2 times the population variance over K tensors, at each position.

    Written over pairs it is exactly zero where all agree, free of cancellation, and does not depend on the tensors'
    order where differences are representable, so ties stay ties.  It is the same for targets and for their deltas.
    """
    import torch

    total = torch.zeros_like(tensors[0])
    for i, first in enumerate(tensors):
        for second in tensors[i + 1 :]:
            difference = first - second
            total.addcmul_(difference, difference)
    return total
