"""Measure what rounding leaves of an update, in the same pass that rounds it (fusion.precision says what for)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from fusion.precision import NARROW, Kept

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1024  # entries; sums within a block are in fp32 and in any order, over blocks in float64
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


class UpdateTally:
    """What is kept of an update in the stored weights, and would be kept of these in narrower types, piece by piece."""

    def __init__(self) -> None:
        self._sums = {held: np.zeros(4) for held in ("stored", *NARROW)}
        self._entries = 0

    def add(self, before: Tensor, after: Tensor, stored: Tensor) -> None:
        """Count one piece: the pivot's and the model's entries in fp32, and the model's as they are stored."""
        import torch

        self._entries += before.numel()
        found: dict[Any, NDArray[np.float64]] = {}
        for held, sums in self._sums.items():
            dtype = stored.dtype if held == "stored" else getattr(torch, held)
            if dtype not in found:
                rounded = (before.to(dtype).float(), stored.to(dtype).float())
                found[dtype] = np.zeros(4)
                _add_products(*(part.numpy() for part in (before, after, *rounded)), found[dtype])
            sums += found[dtype]

    def include(self, other: UpdateTally) -> None:
        """Add what another one counted."""
        self._entries += other._entries
        for held, sums in self._sums.items():
            sums += other._sums[held]

    def kept(self, held: str = "stored") -> Kept:
        """What is left in the stored weights, or in a narrower type."""
        whole, left, product, moved = self._sums[held].tolist()
        both = math.sqrt(whole) * math.sqrt(left)
        return Kept(
            cosine=min(1.0, product / both) if both else None,
            norm_ratio=math.sqrt(left) / math.sqrt(whole) if whole else None,
            moved=moved / max(self._entries, 1),
        )

    def facts(self) -> dict[str, dict[str, float | None]]:
        """For a manifest, by how the weights are held; a type that the weights overflow is left out."""
        found = {}
        for held, sums in self._sums.items():
            if np.isfinite(sums).all():
                kept = self.kept(held)
                found[held] = {
                    name: None if value is None else round(value, 6)
                    for name, value in (
                        ("cosine", kept.cosine),
                        ("norm_ratio", kept.norm_ratio),
                        ("moved", kept.moved),
                    )
                }
        return found


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _add_products(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    held_before: NDArray[np.float32],
    held_after: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    """Add to `sums` the squares of the update and of what is left of it, their product, and the entries that moved."""
    for start in range(0, before.size, _BLOCK):
        first, second = before[start : start + _BLOCK], after[start : start + _BLOCK]
        left, right = held_before[start : start + _BLOCK], held_after[start : start + _BLOCK]
        whole, kept, product, moved = _ZERO, _ZERO, _ZERO, _ZERO
        for i in range(first.size):
            change, rest = second[i] - first[i], right[i] - left[i]
            whole += change * change
            kept += rest * rest
            product += change * rest
            moved += _ONE if rest != _ZERO else _ZERO
        sums[0] += whole
        sums[1] += kept
        sums[2] += product
        sums[3] += moved
