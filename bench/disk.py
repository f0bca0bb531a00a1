"""Bytes on disk of a representation at k = 10, for a vocabulary below and one above 65,536 ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.row import BenchRow
from fusion.distribution import TopK
from fusion.represent.representation import RowRepresentation, packed_rows
from fusion.represent.shards import write_shard

_K, _LENGTH, _ROWS = 10, 200, 64


def rows() -> Iterator[BenchRow]:
    """One row for each vocabulary size."""
    for size in (32_000, 151_646):
        generator = np.random.default_rng(0)
        made = [_row(generator, number, size) for number in range(_ROWS)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shard.safetensors"
            write_shard(path, packed_rows(made, vocabulary=size))
            each = path.stat().st_size / sum(len(row.label_ids) for row in made)
        yield BenchRow(
            what=f"representation on disk, k={_K}, vocabulary of {size:,}, {_LENGTH} labels a conversation",
            measured=f"{each:.1f} bytes a labelled token",
            bar="at most 60 bytes",
            reached=each <= 60,
        )


def _row(generator: np.random.Generator, number: int, size: int) -> RowRepresentation:
    """Random distributions over a text of two turns whose tokens are 1 to 8 bytes long."""
    mass = np.log(generator.dirichlet(np.ones(_K + 1), _LENGTH)).astype(np.float32)
    turn = (np.arange(_LENGTH) >= _LENGTH // 2).astype(np.int16)
    width = generator.integers(1, 9, _LENGTH)
    end = np.concatenate([np.cumsum(width[turn == t]) for t in (0, 1)]).astype(np.int32)
    ids = np.stack([generator.choice(size, _K, replace=False) for _ in range(_LENGTH)]).astype(np.int32)
    return RowRepresentation(
        conversation_id=f"conversation-{number}",
        label_ids=ids[:, 0],
        turn=turn,
        start=end - width.astype(np.int32),
        end=end,
        top=TopK(ids=ids, log_probs=mass[:, :_K], tail=mass[:, _K]),
        gold_log_prob=mass[:, 0],
        nll=float(-mass[:, 0].sum()),
        bytes=int(width.sum()),
    )
