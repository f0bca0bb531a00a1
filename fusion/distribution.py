"""A next-token distribution of which only the k likeliest entries are kept, with the mass of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_TOKEN = -1


@dataclass(frozen=True, kw_only=True)
class TopK:
    """Sparse next-token distributions at `P` positions, `K` slots each; log-probabilities in nats, natural scale.

    `ids[p, k]` is a vocabulary id or NO_TOKEN for an unused slot, whose `log_probs[p, k]` is -inf.  Within a position
    no id occurs twice.  `tail[p]` is the log of the probability mass that is in no slot (-inf when there is none), so
    `exp(log_probs).sum(-1) + exp(tail)` is 1 at every position, up to the rounding of storage, except at positions
    with no entry at all, where `tail` is 0: such a position says nothing.
    """

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    tail: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> TopK:
        return TopK(ids=self.ids[rows], log_probs=self.log_probs[rows], tail=self.tail[rows])
