"""A control: fused targets that keep a source's confidence and lose what it knows about the alternatives.

Wherever a source teaches, the gold token keeps its probability and every other kept probability is handed to another
token, drawn evenly from the vocabulary.  Each position has the entropy, the confidence in the gold token and the lost
mass of the real target, so a model that learns as well from these learns from soft labels and not from the source.
Positions that the pivot or the label teaches stay as they are.
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
    from jaxtyping import Int32

_ROWS_PER_SHARD = 1024


def shuffle(*, fused: Path, vocabulary: int, seed: int, out: Path) -> dict[str, int]:
    """Write the targets in `fused` into `out` with the sources' alternatives shuffled; `vocabulary` counts the pivot's
    ids.  Returns how many positions there are and how many were changed.  Raises Refusal for a vocabulary of fewer
    than twice the kept ids.
    """
    rows = open_fused(fused)
    writer = FusedWriter(out, teachers=rows.teachers, rows_per_shard=_ROWS_PER_SHARD)
    generator = np.random.default_rng(seed)
    positions = changed = 0
    for row in rows:
        by_source = row.taught_by > 0  # 0 is the pivot
        top = TopK(ids=row.top.ids.copy(), log_probs=row.top.log_probs, tail=row.top.tail)
        top.ids[by_source] = shuffled_ids(
            row.top.ids[by_source], row.label_ids[by_source], vocabulary=vocabulary, generator=generator
        )
        writer.add(row.conversation_id, row.label_ids, Fused(top=top, taught_by=row.taught_by))
        positions += len(by_source)
        changed += int(by_source.sum())
    writer.close()
    return {"conversations": len(rows), "positions": positions, "shuffled": changed}


def shuffled_ids(
    ids: Int32[NDArray[np.int32], "N K"],
    gold: Int32[NDArray[np.int32], " N"],
    *,
    vocabulary: int,
    generator: np.random.Generator,
) -> Int32[NDArray[np.int32], "N K"]:
    """`ids` [N, K] with every token but `gold` [N] replaced by one drawn evenly from the others, none twice in a row.

    Unused slots stay unused.  Raises Refusal where `vocabulary` is below 2 K, too few to draw from.
    """
    length, k = ids.shape
    if vocabulary < 2 * k:
        raise Refusal(f"a vocabulary of {vocabulary} ids is too small to shuffle {k} kept ones: lower represent.k")
    drawn = np.empty((length, k), np.int32)
    waiting = np.arange(length)
    while len(waiting):
        drawn[waiting] = generator.integers(0, vocabulary - 1, (len(waiting), k), dtype=np.int32)
        ordered = np.sort(drawn[waiting], axis=1)
        waiting = waiting[(ordered[:, 1:] == ordered[:, :-1]).any(1)]
    drawn += drawn >= gold[:, None]  # the ids from gold on move up by one, so gold is never drawn
    return np.where((ids == gold[:, None]) | (ids == NO_TOKEN), ids, drawn)
