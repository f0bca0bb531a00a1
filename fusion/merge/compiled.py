"""The loops that have no fast form in torch, compiled by numba; they release the interpreter's lock.

Each is exact and depends on nothing but its arguments, so pieces may be worked on in any order and by any thread.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

HIGH_BINS, LOW_BINS = 2**15, 2**16


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
    wanted = np.uint32(high)
    for i in range(bits.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        if (magnitude >> np.uint32(16)) == wanted:
            counts[magnitude & np.uint32(0xFFFF)] += 1


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


@numba.njit(nogil=True, cache=True)
def count_signs(vector: NDArray[np.float32], elected: NDArray[np.float32]) -> tuple[int, int]:
    """Nonzero entries, and those of them whose sign is not the elected one (zero elects plus)."""
    nonzero = 0
    conflicts = 0
    for i in range(vector.size):
        nonzero += vector[i] != 0.0
        conflicts += ((vector[i] < 0.0) & (elected[i] >= 0.0)) | ((vector[i] > 0.0) & (elected[i] < 0.0))
    return nonzero, conflicts


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
def bernoulli(start: int, key_low: int, key_high: int, limit: int, mask: NDArray[np.float32]) -> None:
    """mask = 1 with probability limit / 2**32, else 0; entry i is drawn by the counter of position start + i.

    `start` is a multiple of four.
    """
    below = np.uint64(limit)
    one, zero = np.float32(1.0), np.float32(0.0)
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
def count_different(first: NDArray[np.unsignedinteger], second: NDArray[np.unsignedinteger]) -> int:
    """How many entries of two arrays of bit patterns differ."""
    different = 0
    for i in range(first.size):
        different += first[i] != second[i]
    return different
