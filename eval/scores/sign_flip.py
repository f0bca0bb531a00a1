"""Is a paired difference more than chance?  Fisher's sign-flip test, with whole questions as its units.

If two models were exchangeable, each question could as well have come out with their names swapped, which turns the
sign of its difference.  The p-value is the share of swaps that give a mean at least as far from 0 as the one seen.  No
distribution is assumed, and a question's turns are flipped together because they are not independent.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eval.scores.intervals import batches

if TYPE_CHECKING:
    from jaxtyping import Float64

FLIPS = 9_999


@functools.lru_cache(maxsize=8)
def swaps(groups: int, flips: int, seed: int) -> NDArray[np.int8]:
    """Which groups are swapped (1) in each flip, [flips, groups]; all 2**groups ways when `flips` would reach them.

    The same seed and number of groups give the same flips to every model compared; the last few are kept, read-only.
    """
    if groups < 31 and 2**groups <= flips + 1:
        ways = np.arange(2**groups)[:, None]
        drawn: NDArray[np.int8] = ((ways >> np.arange(groups)) & 1).astype(np.int8)
    else:
        drawn = np.random.default_rng(seed).integers(0, 2, size=(flips, groups), dtype=np.int8)
    drawn.flags.writeable = False
    return drawn


def smallest_p(questions: int, *, flips: int = FLIPS) -> float:
    """The smallest p-value that the test can give: that of a difference whose sign is the same on every question.

    Where all swaps are counted, two of them are as extreme (none swapped, and all); else none of those drawn need be.
    """
    return 2.0 ** (1 - questions) if questions < 31 and 2**questions <= flips + 1 else 1 / (1 + flips)


def sign_flip_ps(
    sums: Float64[NDArray[np.float64], "models groups"], *, flips: int = FLIPS, seed: int = 0
) -> list[float]:
    """Two-sided p-values of several models: `sums` [models, G] are the differences of each added up by question.

    Exact where all 2**G swaps of G questions are no more than `flips` + 1; else (1 + as extreme) / (1 + flips) of
    random ones, which is never 0 and never too small on average (Phipson and Smyth 2010).
    """
    seen = np.abs(sums.sum(axis=1))
    # Sums that are equal on paper differ in their last bits by the order of adding.
    reach = seen - 1e-9 * np.maximum(1.0, np.abs(sums).sum(axis=1))
    drawn = swaps(sums.shape[1], flips, seed)
    extreme = np.zeros(len(sums), dtype=np.int64)
    for part in batches(len(drawn)):
        extreme += np.count_nonzero(np.abs(sums.sum(axis=1) - 2 * (drawn[part] @ sums.T)) >= reach, axis=0)
    if len(drawn) == 2 ** sums.shape[1]:
        return [int(found) / len(drawn) for found in extreme]
    return [(1 + int(found)) / (1 + len(drawn)) for found in extreme]
