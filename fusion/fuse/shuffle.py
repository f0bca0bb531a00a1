"""A control: fused targets that keep a source's confidence and lose what it knows about the alternatives.

Wherever a source teaches, the gold token keeps its probability and every other kept probability is handed to a token
that the target did not name, drawn evenly from the rest of the vocabulary.  That takes away which alternatives the
source sees, also where the label is wrong and the source's best token is one of them.  Each position has the entropy,
the confidence in the gold token and the lost mass of the real target, so a model that learns as well from these learns
from soft labels and not from the source.  Positions that the pivot or the label teaches stay as they are.

Sources that agree with the labels put hardly any mass elsewhere, and then there is little to take away: how much it was
is among the facts, and where it is little the run says so (fusion.runtime.shortfall).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.distribution import NO_TOKEN, TopK
from fusion.fuse.candidate import Fused
from fusion.fuse.shards import FusedWriter, open_fused
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from jaxtyping import Float64, Int32

_ROWS_PER_SHARD = 1024


def shuffle(*, fused: Path, vocabulary: int, seed: int, out: Path) -> dict[str, int | float]:
    """Write the targets in `fused` into `out` with the sources' alternatives shuffled; `vocabulary` counts the pivot's
    ids.  Raises Refusal for a vocabulary of no more than twice the kept ids.

    The facts say how many positions there are and how many of them a source teaches (`taught`), and what was moved to
    drawn tokens there, which is what the target gave to named tokens other than the label: `removed`, the mean
    probability per taught position, `removed_of_all`, the same per position of any teacher, and `removed_most`, the
    share of taught positions at which more than half of the probability was moved.
    """
    rows = open_fused(fused)
    writer = FusedWriter(out, teachers=rows.teachers, rows_per_shard=_ROWS_PER_SHARD)
    generator = np.random.default_rng(seed)
    positions = taught = most = 0
    removed = 0.0
    for row in rows:
        by_source = row.taught_by > 0  # 0 is the pivot
        top = TopK(ids=row.top.ids.copy(), log_probs=row.top.log_probs, tail=row.top.tail)
        top.ids[by_source] = shuffled_ids(
            row.top.ids[by_source], row.label_ids[by_source], vocabulary=vocabulary, generator=generator
        )
        writer.add(row.conversation_id, row.label_ids, Fused(top=top, taught_by=row.taught_by))
        moved = alternatives_mass(row.top, row.label_ids)[by_source]
        positions += len(by_source)
        taught += len(moved)
        removed += float(moved.sum())
        most += int((moved > 0.5).sum())
    writer.close()
    return {
        "conversations": len(rows),
        "positions": positions,
        "taught": taught,
        "removed": round(removed / max(1, taught), 6),
        "removed_of_all": round(removed / max(1, positions), 6),
        "removed_most": round(most / max(1, taught), 6),
    }


def alternatives_mass(top: TopK, gold: Int32[NDArray[np.int32], " N"]) -> Float64[NDArray[np.float64], " N"]:
    """The probability [N] of the named tokens other than `gold` [N]."""
    other = (top.ids != NO_TOKEN) & (top.ids != gold[:, None])
    mass: NDArray[np.float64] = np.where(other, np.exp(top.log_probs.astype(np.float64)), 0.0).sum(1)
    return mass


def shuffled_ids(
    ids: Int32[NDArray[np.int32], "N K"],
    gold: Int32[NDArray[np.int32], " N"],
    *,
    vocabulary: int,
    generator: np.random.Generator,
) -> Int32[NDArray[np.int32], "N K"]:
    """`ids` [N, K] with every token but `gold` [N] replaced by one drawn evenly from those that are neither `gold` nor
    in the row, none twice in a row.

    Unused slots stay unused.  Raises Refusal where `vocabulary` is at most 2 K, too few to draw from.
    """
    length, k = ids.shape
    if vocabulary <= 2 * k:
        raise Refusal(f"a vocabulary of {vocabulary} ids is too small to shuffle {k} kept ones: lower represent.k")
    # What a drawn token must not be: gold, one of the row's, or, as each slot is decided, one drawn for it before.
    barred = np.concatenate([ids, gold[:, None], np.full((length, k), NO_TOKEN, np.int32)], axis=1)
    for slot in range(k):
        waiting = np.arange(length)
        while len(waiting):
            drawn = generator.integers(0, vocabulary, len(waiting), dtype=np.int32)
            free = (barred[waiting] != drawn[:, None]).all(1)
            barred[waiting[free], k + 1 + slot] = drawn[free]
            waiting = waiting[~free]
    return np.where((ids == gold[:, None]) | (ids == NO_TOKEN), ids, barred[:, k + 1 :])
