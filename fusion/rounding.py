"""Measure what rounding leaves of an update, in the same pass that rounds it (fusion.precision says what for)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from fusion.precision import NARROW, Kept

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1024  # entries; sums within a block are in fp32 and in any order, over blocks in float64
_ZERO, _ONE, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
_SIGN, _INFINITE = np.uint32(0x80000000), np.uint32(0x7F800000)
_WIDE, _BF16, _F16 = 0, 1, 2
_KINDS = {"float64": _WIDE, "float32": _WIDE, "bfloat16": _BF16, "float16": _F16}


class UpdateTally:
    """What is kept of an update in the stored weights, and would be kept of wider ones in 16 bits, piece by piece."""

    def __init__(self) -> None:
        self._sums = {held: np.zeros(4) for held in ("stored", *NARROW)}
        self._entries = 0
        self._wide = False  # whether any are stored in more than 16 bits

    def add(self, before: Tensor, after: Tensor, stored: Tensor) -> None:
        """Count one piece: the pivot's and the model's entries in fp32, and the model's as they are stored."""
        self._entries += before.numel()
        own = _KINDS[str(stored.dtype).removeprefix("torch.")]
        self._wide |= own == _WIDE
        kinds = {held: own if held == "stored" or own != _WIDE else _KINDS[held] for held in self._sums}
        each = tuple(dict.fromkeys(kinds.values()))
        found = _products(before.numpy(), after.numpy(), stored.float().numpy(), each)
        for held, sums in self._sums.items():
            sums += found[each.index(kinds[held])]

    def include(self, other: UpdateTally) -> None:
        """Add what another one counted."""
        self._entries += other._entries
        self._wide |= other._wide
        for held, sums in self._sums.items():
            sums += other._sums[held]

    def kept(self, held: str = "stored") -> Kept:
        """What is left in the stored weights, or of these in a narrower type."""
        whole, left, product, moved = self._sums[held].tolist()
        both = math.sqrt(whole) * math.sqrt(left)
        return Kept(
            cosine=min(1.0, product / both) if both else None,
            norm_ratio=math.sqrt(left) / math.sqrt(whole) if whole else None,
            moved=moved / max(self._entries, 1),
        )

    def facts(self) -> dict[str, dict[str, float | None]]:
        """For a manifest, by how the weights are held: as stored, and if that is wider in each type of 16 bits.

        A type that the weights overflow is left out.
        """
        found = {}
        for held, sums in self._sums.items():
            if np.isfinite(sums).all() and (held == "stored" or self._wide):
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


@numba.njit(nogil=True)
def _held(values: NDArray[np.float32], kind: int, out: NDArray[np.float32]) -> None:
    """out = values rounded to nearest, ties to even, in a type of that kind."""
    bits, rounded = values.view(np.uint32), out.view(np.uint32)
    if kind == _BF16:
        for i in range(values.size):
            half = np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))
            rounded[i] = (bits[i] + half) & np.uint32(0xFFFF0000)
    elif kind == _F16:
        for i in range(values.size):
            size = abs(values[i])
            magnitude = bits[i] & ~_SIGN
            normal = (magnitude + np.uint32(0xFFF) + ((bits[i] >> np.uint32(13)) & np.uint32(1))) & np.uint32(
                0xFFFFE000
            )
            if normal >= np.uint32(0x47800000):  # 2**16
                normal = _INFINITE
            out[i] = (size + _HALF) - _HALF  # in steps of 2**-24, fp32's beside one half and fp16's below 2**-14
            chosen = rounded[i] if size < np.float32(2.0**-14) else normal
            rounded[i] = chosen | (bits[i] & _SIGN)
    else:
        for i in range(values.size):
            out[i] = values[i]


@numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _change(before: NDArray[np.float32], after: NDArray[np.float32], change: NDArray[np.float32]) -> np.float32:
    """change = after - before; returns the sum of its squares."""
    square = _ZERO
    for i in range(change.size):
        change[i] = after[i] - before[i]
        square += change[i] * change[i]
    return square


@numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _left(
    change: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[np.float32, np.float32, np.float32]:
    """The square of second - first, its product with `change`, and how many entries of it are not zero."""
    square, product, moved = _ZERO, _ZERO, _ZERO
    for i in range(change.size):
        rest = second[i] - first[i]
        square += rest * rest
        product += change[i] * rest
        moved += _ONE if rest != _ZERO else _ZERO
    return square, product, moved


@numba.njit(nogil=True, cache=True)
def _products(
    before: NDArray[np.float32], after: NDArray[np.float32], stored: NDArray[np.float32], kinds: tuple[int, ...]
) -> NDArray[np.float64]:
    """[kinds, 4]: squares of the update, and of what is left where `before` and `stored` are held in a type of that
    kind; their product; the entries that moved."""
    sums = np.zeros((len(kinds), 4))
    room = np.empty((3, _BLOCK), np.float32)
    for start in range(0, before.size, _BLOCK):
        end = min(start + _BLOCK, before.size)
        change, first, second = room[0, : end - start], room[1, : end - start], room[2, : end - start]
        whole = _change(before[start:end], after[start:end], change)
        for k in range(len(kinds)):
            _held(before[start:end], kinds[k], first)
            _held(stored[start:end], kinds[k], second)
            square, product, moved = _left(change, first, second)
            sums[k, 0] += whole
            sums[k, 1] += square
            sums[k, 2] += product
            sums[k, 3] += moved
    return sums
