"""The loops of merging, compiled by numba; they release the interpreter's lock.

Each depends on nothing but its arguments, so pieces may be worked on in any order and by any thread.  `rows` are a
piece as it is stored, one row for each model: bf16 as its bits (uint16), or fp32.  They are widened where they are
used, and work goes by blocks that stay in the processor's first cache: merging then costs little more than reading.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic
from numpy.typing import NDArray

HIGH_BINS, LOW_BINS = 2**15, 2**16
_BLOCK = 1024  # entries
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
# Rows are cut into slices below: where an index is a sum, numba's care for negative ones keeps loops from vectorising.
# w * x + y is one instruction with one rounding, as in torch.
_FUSED = {"contract"}
# Sums within a block are in fp32 and in any order, over blocks in float64.
_SUMMED = {"contract", "reassoc", "nsz"}


@intrinsic
def _fp32(_: Any, stored: Any) -> Any:
    """A stored entry as fp32: the bits of a bf16 are the upper half of it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if signature.args[0] == numba.types.float32:
            return values[0]
        word = builder.zext(values[0], ir.IntType(32))
        return builder.bitcast(builder.shl(word, ir.Constant(ir.IntType(32), 16)), ir.FloatType())

    return numba.types.float32(stored), generate


@numba.njit(nogil=True, cache=True)
def deltas(rows: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    """out[k] = rows[k + 1] - rows[0]: each target minus the pivot."""
    for k in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[k, i] = _fp32(rows[k + 1, i]) - _fp32(rows[0, i])


@numba.njit(nogil=True, cache=True, fastmath=_FUSED)
def moved(rows: NDArray[np.generic], weights: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """out = rows[0] + sum_k weights[k] (rows[k + 1] - rows[0]), the sum first and in the rows' order."""
    for start in range(0, out.size, _BLOCK):
        block = out[start : start + _BLOCK]
        pivot = rows[0, start : start + block.size]
        block[:] = _ZERO
        for k in range(weights.size):
            weight, row = weights[k], rows[k + 1, start : start + block.size]
            for i in range(block.size):
                block[i] += weight * (_fp32(row[i]) - _fp32(pivot[i]))
        for i in range(block.size):
            block[i] += _fp32(pivot[i])


@numba.njit(nogil=True, cache=True, fastmath=_FUSED)
def weighted_sum(rows: NDArray[np.generic], weights: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """out = sum_k weights[k] rows[k], added in the rows' order."""
    for start in range(0, out.size, _BLOCK):
        block = out[start : start + _BLOCK]
        block[:] = _ZERO
        for k in range(weights.size):
            weight, row = weights[k], rows[k, start : start + block.size]
            for i in range(block.size):
                block[i] += weight * _fp32(row[i])


@numba.njit(nogil=True, cache=True, fastmath=_FUSED, error_model="numpy")
def elected_sum(
    vectors: NDArray[np.float32],
    weights: NDArray[np.float32],
    elected: NDArray[np.float32],
    floor: np.float32,
    out: NDArray[np.float32],
) -> None:
    """out = sum_k weights[k] vectors[k] over those whose sign is `elected`'s, zero electing plus.

    With a `floor` above zero it is divided by the sum of their weights, which is taken to be at least `floor`.
    """
    sign, total = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, out.size, _BLOCK):
        merged, winner = out[start : start + _BLOCK], elected[start : start + _BLOCK]
        for i in range(merged.size):
            sign[i] = _ONE if winner[i] >= _ZERO else -_ONE
            merged[i] = _ZERO
            total[i] = _ZERO
        for k in range(weights.size):
            weight, vector = weights[k], vectors[k, start : start + merged.size]
            for i in range(merged.size):
                magnitude = sign[i] * vector[i]
                agrees = magnitude > _ZERO
                merged[i] += weight * (magnitude if agrees else _ZERO)
                total[i] += weight if agrees else _ZERO
        for i in range(merged.size):
            merged[i] *= sign[i]
        if floor > _ZERO:
            for i in range(merged.size):
                merged[i] /= total[i] if total[i] > floor else floor


@numba.njit(nogil=True, cache=True)
def spread(rows: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    """out = sum_{i<j} (rows[i] - rows[j])^2."""
    for start in range(0, out.size, _BLOCK):
        total = out[start : start + _BLOCK]
        total[:] = _ZERO
        for k in range(rows.shape[0]):
            first = rows[k, start : start + total.size]
            for j in range(k + 1, rows.shape[0]):
                second = rows[j, start : start + total.size]
                for i in range(total.size):
                    difference = _fp32(first[i]) - _fp32(second[i])
                    total[i] += difference * difference


@numba.njit(nogil=True, fastmath=_SUMMED)
def _minus(stored: NDArray[np.generic], pivot: NDArray[np.float32], out: NDArray[np.float32]) -> np.float32:
    """out = stored - pivot; returns the sum of its squares."""
    square = _ZERO
    for i in range(out.size):
        out[i] = _fp32(stored[i]) - pivot[i]
        square += out[i] * out[i]
    return square


@numba.njit(nogil=True, fastmath=_SUMMED)
def _signs(vector: NDArray[np.float32], elected: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Nonzero entries, and those of them whose sign is not the elected one (zero elects plus); exact in fp32."""
    nonzero, conflicts = _ZERO, _ZERO
    for i in range(vector.size):
        counts = vector[i] != _ZERO
        nonzero += _ONE if counts else _ZERO
        conflicts += _ONE if counts & ((vector[i] < _ZERO) != (elected[i] < _ZERO)) else _ZERO
    return nonzero, conflicts


@numba.njit(nogil=True, cache=True)
def tally(
    rows: NDArray[np.generic],
    merged: NDArray[np.float32],
    vectors: NDArray[np.float32],
    elected: NDArray[np.float32],
    squares: NDArray[np.float64],
    kept: NDArray[np.int64],
    conflicts: NDArray[np.int64],
) -> float:
    """Add to squares[k] the task vector's square, and to kept[k] and conflicts[k] what `vectors[k]` keeps and loses.

    No `vectors` stand for the task vectors, no `elected` for merged minus pivot; returns the square of the latter.
    """
    room = np.empty((3, _BLOCK), np.float32)
    moved = 0.0
    for start in range(0, merged.size, _BLOCK):
        end = min(start + _BLOCK, merged.size)
        pivot, move, delta = room[0, : end - start], room[1, : end - start], room[2, : end - start]
        row = rows[0, start:end]
        for i in range(pivot.size):
            pivot[i] = _fp32(row[i])
        moved += _minus(merged[start:end], pivot, move)
        for k in range(kept.size):
            squares[k] += _minus(rows[k + 1, start:end], pivot, delta)
            vector = vectors[k, start:end] if vectors.size else delta
            nonzero, lost = _signs(vector, elected[start:end] if elected.size else move)
            kept[k] += int(nonzero)
            conflicts[k] += int(lost)
    return moved


@numba.njit(nogil=True, cache=True)
def count_high(bits: NDArray[np.uint32], counts: NDArray[np.int64]) -> int:
    """Histogram of non-negative floats by sign-free upper 16 bits, which order as the numbers do; returns the zeros."""
    zeros = 0
    for i in range(bits.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        counts[magnitude >> np.uint32(16)] += 1
        zeros += magnitude == 0
    return zeros


@numba.njit(nogil=True, cache=True)
def count_low(bits: NDArray[np.uint32], high: int, counts: NDArray[np.int64]) -> None:
    """Histogram of the lower 16 bits of those floats whose upper bits are `high`."""
    first = np.uint32(high) << np.uint32(16)
    short = np.int32(0)  # differences of bf16 numbers have few bits: most of them have none down here
    for i in range(bits.size):
        short += np.int32((bits[i] & np.uint32(0x7FFFFFFF)) == first)
    counts[0] += short
    for i in range(bits.size):
        low = (bits[i] & np.uint32(0x7FFFFFFF)) - first
        if np.uint32(low - np.uint32(1)) < np.uint32(LOW_BINS - 1):
            counts[low] += 1


@numba.njit(nogil=True, cache=True)
def trim(values: NDArray[np.float32], threshold: np.float32, out: NDArray[np.float32]) -> None:
    """out = value where |value| >= threshold, else zero, of the value's sign."""
    for i in range(values.size):
        out[i] = values[i] * (_ONE if abs(values[i]) >= threshold else _ZERO)


@numba.njit(nogil=True, cache=True)
def at_least(values: NDArray[np.float32], threshold: np.float32, mask: NDArray[np.float32]) -> None:
    """mask = 1 where |value| >= threshold, else 0."""
    for i in range(values.size):
        mask[i] = np.float32(1.0) if abs(values[i]) >= threshold else np.float32(0.0)


@numba.njit(nogil=True, cache=True)
def above_and_first(
    values: NDArray[np.float32], threshold: np.float32, allowed: int, mask: NDArray[np.float32]
) -> None:
    """mask = 1 where |value| > threshold and at the first `allowed` positions that equal it, else 0."""
    left = allowed
    for i in range(values.size):
        magnitude = abs(values[i])
        if magnitude > threshold:
            mask[i] = 1.0
        elif magnitude == threshold and left > 0:
            mask[i] = 1.0
            left -= 1
        else:
            mask[i] = 0.0


@numba.njit(nogil=True, cache=True)
def count_equal(values: NDArray[np.float32], threshold: np.float32) -> int:
    """How many magnitudes equal the threshold."""
    found = 0
    for i in range(values.size):
        found += abs(values[i]) == threshold
    return found


@numba.njit(nogil=True, cache=True, inline="always")
def philox(counter: int, key_low: int, key_high: int) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Four random words for one counter: Philox4x32-10 (Salmon et al., SC 2011)."""
    mask = np.uint64(0xFFFFFFFF)
    x0, x1 = np.uint64(counter) & mask, np.uint64(counter) >> np.uint64(32)
    x2, x3 = np.uint64(0), np.uint64(0)
    k0, k1 = np.uint64(key_low), np.uint64(key_high)
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (
            (second >> np.uint64(32)) ^ x1 ^ k0,
            second & mask,
            (first >> np.uint64(32)) ^ x3 ^ k1,
            first & mask,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return np.uint32(x0), np.uint32(x1), np.uint32(x2), np.uint32(x3)


@numba.njit(nogil=True, cache=True)
def bernoulli(start: int, key_low: int, key_high: int, limit: int, one: np.float32, mask: NDArray[np.float32]) -> None:
    """mask = `one` with probability limit / 2**32, else 0; entry i is drawn by the counter of position start + i.

    `start` is a multiple of four.
    """
    below = np.uint64(limit)
    zero = _ZERO
    whole = mask.size // 4
    for block in range(whole):
        w0, w1, w2, w3 = philox(start // 4 + block, key_low, key_high)
        mask[4 * block] = one if np.uint64(w0) < below else zero
        mask[4 * block + 1] = one if np.uint64(w1) < below else zero
        mask[4 * block + 2] = one if np.uint64(w2) < below else zero
        mask[4 * block + 3] = one if np.uint64(w3) < below else zero
    words = philox(start // 4 + whole, key_low, key_high)
    for j in range(mask.size - 4 * whole):
        mask[4 * whole + j] = one if np.uint64(words[j]) < below else zero


@numba.njit(nogil=True, cache=True)
def stochastic(
    values: NDArray[np.float32],
    start: int,
    key: tuple[int, int],
    dropped: int,
    smallest: np.float32,
    step: np.float32,
    out: NDArray[np.float32],
) -> None:
    """out = one of the two neighbours of each value in a narrower type, the nearer one the likelier: the mean is value.

    The type drops the lowest `dropped` bits of an fp32 number; magnitudes below its `smallest` normal number, if that
    is not zero, lie on a grid of `step`.  Entry i is drawn by the counter of position start + i; `start` is a multiple
    of four.  What would become infinite is rounded down.
    """
    bits, rounded = values.view(np.uint32), out.view(np.uint32)
    below = np.uint32((1 << dropped) - 1)
    infinite = np.uint32(0x7F800000)
    for block in range((values.size + 3) // 4):
        words = philox(start // 4 + block, key[0], key[1])
        for j in range(min(4, values.size - 4 * block)):
            i = 4 * block + j
            word = words[j]
            if abs(values[i]) < smallest:
                steps = np.float64(abs(values[i])) / np.float64(step)
                low = np.floor(steps)
                low += np.float64(word) < (steps - low) * 2.0**32
                out[i] = np.float32(np.copysign(low * np.float64(step), np.float64(values[i])))
                continue
            # The bits of one sign count in equal steps from one neighbour to the next, so adding draws by distance.
            drawn = np.uint32(bits[i] + (word >> np.uint32(32 - dropped))) & ~below
            rounded[i] = bits[i] & ~below if drawn & infinite == infinite else drawn
