"""Carry a source's distributions to pivot positions and pivot ids.

A source entry goes to the id the vocabulary map gives it.  Entries with no pivot id leave their mass in the tail, so
every position still sums to one.  Where two entries land on one pivot id their masses are summed (`sum_collisions`),
or, as in the papers' code, the likelier is kept and the other's mass goes to the tail.

Training makes the entries that are left sum to one again, by which a source that is sure of a token the pivot lacks
would be sure of whatever else it had in mind.  So a position says nothing where too little of its mass has a pivot id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusion.align.matches import EMPTY, ONE_HOT, TRANSFERRED, Decision
from fusion.distribution import NO_TOKEN, TopK

if TYPE_CHECKING:
    from jaxtyping import Int8, Int32


@dataclass(frozen=True, kw_only=True, eq=False)
class IdMap:
    """Source id to pivot id or NO_TOKEN, V ids; the other two rows are for the border of a turn (string_map)."""

    ids: Int32[NDArray[np.int32], " V"]
    ids_space_added: Int32[NDArray[np.int32], " V"] | None = None
    ids_space_removed: Int32[NDArray[np.int32], " V"] | None = None

    def table(self) -> Int32[NDArray[np.int32], "3 V"]:
        """The three rows, [3, V]: as it is, with a space put in front, with the space in front taken off."""
        added = self.ids if self.ids_space_added is None else self.ids_space_added
        removed = self.ids if self.ids_space_removed is None else self.ids_space_removed
        return np.stack([self.ids, added, removed])


def project(
    source: TopK,
    decision: Decision,
    *,
    gold: Int32[NDArray[np.int32], " N"],
    id_table: Int32[NDArray[np.int32], "3 V"],
    border: Int8[NDArray[np.int8], " N"],
    sum_collisions: bool,
    least_kept: float,
) -> tuple[TopK, Decision]:
    """The distributions at the N pivot positions that `decision` speaks of, in pivot ids and as many slots as `source`.

    `gold` [N] are the ids that one-hot positions get, `border` [N] the row of `id_table` [3, V] to use.  A
    transferred position of which no entry has a pivot id, or those that have hold less than `least_kept` (0 to 1) of
    what all its entries hold, says nothing: it becomes EMPTY in the decision returned.
    """
    ids, log_probs, tail, kind = _project(
        source.ids,
        source.log_probs.astype(np.float32, copy=False),
        source.tail.astype(np.float32, copy=False),
        decision.kind,
        decision.source_position,
        gold,
        id_table,
        border,
        sum_collisions,
        least_kept,
    )
    position = np.where(kind == TRANSFERRED, decision.source_position, -1).astype(np.int32)
    return TopK(ids=ids, log_probs=log_probs, tail=tail), Decision(kind=kind, source_position=position)


@njit(cache=True)
def _project(s_ids, s_log_probs, s_tail, kinds, positions, gold, id_table, border, sum_collisions, least_kept):  # type: ignore[no-untyped-def]
    rows, slots = len(kinds), s_ids.shape[1]
    ids = np.full((rows, slots), NO_TOKEN, np.int32)
    log_probs = np.full((rows, slots), -np.inf, np.float32)
    tail = np.zeros(rows, np.float32)
    kind = kinds.copy()
    for i in range(rows):
        if kind[i] == ONE_HOT:
            ids[i, 0], log_probs[i, 0], tail[i] = gold[i], 0.0, -np.inf
        if kind[i] != TRANSFERRED:
            continue
        j = positions[i]
        table = id_table[border[i]]
        used, lost, placed, whole = 0, 0.0, 0.0, 0.0
        for k in range(slots):
            source_id = s_ids[j, k]
            if source_id == NO_TOKEN:
                continue
            mass = np.exp(np.float64(s_log_probs[j, k]))
            whole += mass
            pivot_id = table[source_id] if source_id < len(table) else NO_TOKEN
            if pivot_id == NO_TOKEN:
                lost += mass
                continue
            placed += mass
            slot = 0
            while slot < used and ids[i, slot] != pivot_id:
                slot += 1
            if slot == used:
                ids[i, slot], log_probs[i, slot] = pivot_id, s_log_probs[j, k]
                used += 1
            elif sum_collisions:
                log_probs[i, slot] = np.logaddexp(np.float64(log_probs[i, slot]), np.float64(s_log_probs[j, k]))
            else:
                lost += mass
        if used == 0 or placed < least_kept * whole:
            kind[i], ids[i], log_probs[i] = EMPTY, NO_TOKEN, -np.inf
            continue
        tail[i] = s_tail[j] if lost == 0.0 else np.log(np.exp(np.float64(s_tail[j])) + lost)
        for slot in range(1, used):  # sums may have passed their neighbours: likeliest first
            here = slot
            while here > 0 and log_probs[i, here] > log_probs[i, here - 1]:
                log_probs[i, here], log_probs[i, here - 1] = log_probs[i, here - 1], log_probs[i, here]
                ids[i, here], ids[i, here - 1] = ids[i, here - 1], ids[i, here]
                here -= 1
    return ids, log_probs, tail, kind
