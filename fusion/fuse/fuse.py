"""The fuse stage: a rule applied to every conversation of a pivot and its aligned sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fusion.align.aligned import AlignedRow, open_aligned
from fusion.align.matches import EMPTY, ONE_HOT
from fusion.fuse.candidate import LABEL, Fused, TeacherCandidate, gold_log_prob
from fusion.fuse.shards import FusedWriter
from fusion.represent.representation import RowRepresentation, open_representation
from fusion.runtime.configure import Refusal

_ROWS_PER_SHARD = 1024


def fuse(
    *,
    pivot: Path,
    aligned: Mapping[str, Path],
    rule: Callable[[Sequence[TeacherCandidate]], Fused],
    out: Path,
    domains: Mapping[str, str] = MappingProxyType({}),
    rows_per_shard: int = _ROWS_PER_SHARD,
) -> dict[str, object]:
    """Fuse the pivot's representation with one aligned source, or with several at once (the papers' Multi).

    `domains` are the conversations', by id, for a rule that chooses by them.
    Writes shards and `index.json` into `out` (fusion.fuse.shards), conversations in the pivot's order.  The facts say
    what share of positions each model teaches (`label`: the gold token alone) and each model's cross-entropy over all
    conversations, in nats per token of its own and per byte.  Raises Refusal when a source was aligned to other
    conversations.
    """
    rows = open_representation(pivot).rows
    sources = {name: open_aligned(path) for name, path in aligned.items()}
    for name, source in sources.items():
        if len(source) != len(rows):
            raise Refusal(
                f"the source '{name}' is aligned on {len(source)} conversations and the pivot represents {len(rows)}:"
                " represent and align both on the same data"
            )
    names = ["pivot", *sources]
    taught = np.zeros(len(names) + 1, np.int64)
    totals = np.zeros((len(names), 3))
    writer = FusedWriter(out, teachers=names, rows_per_shard=rows_per_shard)
    for i in range(len(rows)):
        row = rows[i]
        domain = domains.get(row.conversation_id, "")
        candidates = [pivot_candidate(row, domain=domain)]
        candidates += [source_candidate(name, source[i], row, domain=domain) for name, source in sources.items()]
        fused = rule(candidates) if len(row.label_ids) else _nothing(candidates[0])
        writer.add(row.conversation_id, row.label_ids, fused)
        taught += np.bincount(fused.taught_by.astype(np.int64) - LABEL, minlength=len(taught))
        totals += [(candidate.nll, candidate.tokens, candidate.bytes) for candidate in candidates]
    writer.close()
    positions = int(taught.sum())
    return {
        "conversations": len(rows),
        "positions": positions,
        "taught_by": dict(zip(["label", *names], (taught / max(1, positions)).round(6).tolist(), strict=True)),
        "cross_entropy": {
            name: {"per_token": _ratio(nll, tokens), "per_byte": _ratio(nll, size)}
            for name, (nll, tokens, size) in zip(names, totals.tolist(), strict=True)
        },
    }


def pivot_candidate(row: RowRepresentation, *, domain: str = "") -> TeacherCandidate:
    """The pivot itself, which has something to say everywhere; `domain` is the conversation's."""
    length = len(row.label_ids)
    return TeacherCandidate(
        name="pivot",
        top=row.top,
        nll=row.nll,
        tokens=length,
        bytes=row.bytes,
        says=np.ones(length, bool),
        label=np.zeros(length, bool),
        gold_log_prob=row.gold_log_prob,
        domain=domain,
    )


def source_candidate(name: str, source: AlignedRow, pivot: RowRepresentation, *, domain: str = "") -> TeacherCandidate:
    """A source at the pivot's positions.  Raises Refusal when it belongs to another conversation."""
    if source.conversation_id != pivot.conversation_id or len(source.kind) != len(pivot.label_ids):
        raise Refusal(
            f"the source '{name}' has conversation '{source.conversation_id}' with {len(source.kind)} positions where"
            f" the pivot has '{pivot.conversation_id}' with {len(pivot.label_ids)}: align it to this pivot again"
        )
    return TeacherCandidate(
        name=name,
        top=source.top,
        nll=source.nll,
        tokens=source.tokens,
        bytes=source.bytes,
        says=source.kind != EMPTY,
        label=source.kind == ONE_HOT,
        gold_log_prob=gold_log_prob(source.top, pivot.label_ids),
        domain=domain,
    )


def _nothing(pivot: TeacherCandidate) -> Fused:
    return Fused(top=pivot.top, taught_by=np.zeros(0, np.int8))


def _ratio(nll: float, count: float) -> float | None:
    return nll / count if count else None
