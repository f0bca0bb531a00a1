"""DARE: drop most of each task vector at random and rescale the rest (Yu et al., arXiv 2311.03099).

    v_k = m_k * delta_k / density,  m_k ~ Bernoulli(density) at each position
    theta = theta_0 + scale * sum_k w_k v_k        (merge: linear)    or TIES's election on v_k   (merge: ties)

`rescale: inverse_keep_rate` is the paper's and keeps each entry's expectation; `match_l1` gives v_k the L1 norm that
delta_k had, as mergekit, which FuseChat used, does.  FuseChat's config: density 0.6, weight 0.2, normalised.

The mask at a position is a function of the generator's state, the target's index and the position alone: whatever the
shards, threads or other parameters, the same entries are dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fusion.merge.mergekit import InRecipes, Respelled
from fusion.merge.parameter import Combined, Context, Measured, Parameter, Piece, PiecewiseRule, per_target
from fusion.merge.task_vector import elected_sum, normalized, vote, weighted_sum

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class Dare(PiecewiseRule):
    """`density` is the fraction of entries kept (the paper's 1 - p); `scale` is lambda.

    `weight` and `density` are one number, or one for each target.
    """

    in_recipes: ClassVar[InRecipes] = InRecipes(
        per_target=frozenset({"weight", "density"}),
        methods={"dare_linear": {"merge": "linear"}, "dare_ties": {"merge": "ties"}},
        respelled={
            "rescale": Respelled(
                field="rescale",
                values={True: "match_l1", False: "none"},
                note="rescale: true keeps the L1 norm, as in mergekit; the paper's is rescale: inverse_keep_rate",
            )
        },
        mergekit_defaults={"weight": "none, it is required", "density": 1.0, "normalize": False, "rescale": "match_l1"},
    )

    density: float | tuple[float, ...] = 0.6
    weight: float | tuple[float, ...] = 0.2
    scale: float = 1.0
    normalize: bool = True
    rescale: Literal["inverse_keep_rate", "match_l1", "none"] = "inverse_keep_rate"
    merge: Literal["linear", "ties"] = "linear"

    def __post_init__(self) -> None:
        for density in self.density if isinstance(self.density, Sequence) else [self.density]:
            if not 0 < density <= 1:
                raise ValueError(f"density is {density}: expected the fraction of entries to keep, above 0, at most 1")
        if self.merge == "ties" and min(self.weight if isinstance(self.weight, Sequence) else [self.weight]) < 0:
            raise ValueError("a negative weight cannot vote on signs: set merge: linear")

    def measure(self, parameter: Parameter, *, generator: torch.Generator | None, context: Context) -> Measured:
        """The weights, the keys of the masks from one draw of `generator`, and the factors of the rescaling."""
        weights = per_target(self.weight, parameter.targets, "weight")
        densities = per_target(self.density, parameter.targets, "density")
        keys = _mask_keys(generator, parameter.targets)
        factors = [1.0 / density if self.rescale == "inverse_keep_rate" else 1.0 for density in densities]
        if self.rescale == "match_l1":
            factors = _l1_factors(parameter, keys, densities)
        shown = normalized(weights) if self.normalize else weights
        return Measured(
            weights=tuple(self.scale * weight for weight in shown),
            facts={"keys": keys, "densities": densities, "factors": tuple(factors), "votes": weights},
        )

    def combine(self, piece: Piece, measured: Measured) -> Combined:
        """Drop, rescale, merge."""
        import torch

        facts = measured.facts
        vectors = torch.empty_like(piece.deltas)
        factors = zip(facts["keys"], facts["densities"], facts["factors"], strict=True)
        for delta, vector, (key, density, factor) in zip(piece.deltas, vectors, factors, strict=True):
            torch.mul(delta, 1.0 if density == 1 else _mask(piece, key, density, factor), out=vector)
        if self.merge == "linear":
            return Combined(weighted_sum(vectors, measured.weights).add_(piece.pivot), vectors)
        elected = vote(vectors, facts["votes"])
        merged = elected_sum(vectors, facts["votes"], elected, mean_above=_TINY if self.normalize else None)
        return Combined(merged.mul_(self.scale).add_(piece.pivot), vectors, elected)


def _mask_keys(generator: torch.Generator | None, targets: int) -> tuple[tuple[int, int], ...]:
    import torch

    generator = generator or torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    keys = []
    for target in range(targets):
        digest = hashlib.sha256(f"{seed} {target}".encode()).digest()
        keys.append((int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")))
    return tuple(keys)


def _mask(piece: Piece, key: tuple[int, int], density: float, factor: float = 1.0) -> Tensor:
    """`factor` with probability `density`, rounded to a multiple of 2**-32, else 0."""
    import numpy as np
    import torch

    from fusion.merge import compiled

    mask = np.empty(piece.rows.shape[1], np.float32)
    compiled.bernoulli(piece.start, *key, round(density * 2**32), np.float32(factor), mask)
    return torch.from_numpy(mask)


def _l1_factors(parameter: Parameter, keys: Sequence[tuple[int, int]], densities: Sequence[float]) -> list[float]:
    before = [0.0] * parameter.targets
    after = [0.0] * parameter.targets
    for piece in parameter.pieces():
        for k, delta in enumerate(piece.deltas):
            magnitude = delta.abs()
            before[k] += float(magnitude.sum())
            after[k] += float(magnitude.mul_(_mask(piece, keys[k], densities[k])).sum())
    return [whole / kept if kept > 0 else 1.0 for whole, kept in zip(before, after, strict=True)]
