"""What several rules share: weighting task vectors, and electing one sign at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from jaxtyping import Float32, Shaped
    from numpy.typing import NDArray
    from torch import Tensor

    from fusion.merge.parameter import Piece


def weighted_sum(
    vectors: Shaped[Tensor | NDArray[np.generic], "S n"], weights: Sequence[float]
) -> Float32[Tensor, " n"]:
    """sum_k w_k x_k in fp32, added in the targets' order; `vectors` has a row for each, fp32 or as stored."""
    import torch

    from fusion.merge import compiled

    total = np.empty(vectors.shape[1], np.float32)
    compiled.weighted_sum(np.asarray(vectors), np.array(weights, np.float32), total)
    return torch.from_numpy(total)


def moved(piece: Piece, weights: Sequence[float]) -> Float32[Tensor, " n"]:
    """theta_0 + sum_k w_k delta_k in fp32: the pivot moved along the weighted sum of the task vectors."""
    import torch

    from fusion.merge import compiled

    total = np.empty(piece.rows.shape[1], np.float32)
    compiled.moved(piece.rows, np.array(weights, np.float32), total)
    return torch.from_numpy(total)


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


def vote(vectors: Float32[Tensor, "S n"], weights: Sequence[float]) -> Float32[Tensor, " n"]:
    """sum_k w_k v_k up to a positive factor, for its sign.

    Weights are divided by the largest, so equal ones are 1 and what cancels is exactly zero: differences of bf16
    numbers lie on a coarse grid, on which sums are exact and cancelling is common.
    """
    largest = max(abs(weight) for weight in weights) or 1.0
    return weighted_sum(vectors, [weight / largest for weight in weights])


def elected_sum(
    vectors: Float32[Tensor, "S n"],
    weights: Sequence[float],
    elected: Float32[Tensor, " n"],
    *,
    mean_above: float | None = None,
) -> Float32[Tensor, " n"]:
    """sum_k w_k v_k over the vectors that carry `elected`'s sign at a position, where zero elects plus.

    With `mean_above` it is divided by the sum of their weights, which is taken to be no smaller than that.  An entry
    that is zero never takes part.
    """
    import torch

    from fusion.merge import compiled

    total = np.empty(vectors.shape[1], np.float32)
    floor = np.float32(mean_above or 0.0)
    compiled.elected_sum(vectors.numpy(), np.array(weights, np.float32), elected.numpy(), floor, total)
    return torch.from_numpy(total)


def spread(piece: Piece) -> Float32[Tensor, " n"]:
    """sum_{i<j} (x_i - x_j)^2 = K^2 times the population variance over the K targets, at each position.

    Written over pairs it is exactly zero where all agree, free of cancellation, and does not depend on the targets'
    order where differences are representable, so ties stay ties.  It is the same for targets and for their deltas.
    """
    import torch

    from fusion.merge import compiled

    total = np.empty(piece.rows.shape[1], np.float32)
    compiled.spread(piece.rows[1:], total)
    return torch.from_numpy(total)
