"""What a merge did to each parameter: one row for each target, and one for the result.

parameter, layer, elements
target              the target's name, or "(merged)"
weight              the coefficient the rule gave the target here (eta of SCE, w of VaRM); empty where it varies
                    within the parameter, and for the result
delta_norm          L2 norm of the task vector; for the result, of merged minus pivot before rounding
kept_fraction       entries of the task vector that are not zero after trimming, dropping or selecting, of all;
                    for the result, entries whose stored bits are not the pivot's
sign_conflict_rate  of those kept, the share whose sign is not the elected one (rules that elect none: the sign of
                    the sum); empty where nothing was kept, and for the result
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.merge.parameter import Combined, Piece

if TYPE_CHECKING:
    from torch import Tensor

MERGED = "(merged)"


@dataclass
class Tally:
    """Counts over the pieces of one parameter, filled while they are merged."""

    targets: int
    squares: list[float] = field(init=False)
    kept: list[int] = field(init=False)
    conflicts: list[int] = field(init=False)
    moved: int = 0
    moved_square: float = 0.0

    def __post_init__(self) -> None:
        self.squares = [0.0] * self.targets
        self.kept = [0] * self.targets
        self.conflicts = [0] * self.targets

    def add(self, piece: Piece, combined: Combined, rounded: Tensor, rounded_pivot: Tensor) -> None:
        """Count one piece; `rounded` is what is stored of it, `rounded_pivot` the pivot's entries in the same dtype."""
        import torch

        from fusion.merge import compiled

        vectors = piece.deltas if combined.vectors is None else combined.vectors
        move = combined.merged - piece.pivot
        self.moved_square += float(torch.dot(move, move))
        signs = (move if combined.elected is None else combined.elected).numpy()
        for k, (delta, vector) in enumerate(zip(piece.deltas, vectors, strict=True)):
            self.squares[k] += float(torch.dot(delta, delta))
            kept, conflicts = compiled.count_signs(vector.numpy(), signs)
            self.kept[k] += kept
            self.conflicts[k] += conflicts
        integer = {2: np.uint16, 4: np.uint32, 8: np.uint64}[rounded.element_size()]
        same = {2: torch.int16, 4: torch.int32, 8: torch.int64}[rounded.element_size()]
        self.moved += compiled.count_different(
            rounded.view(same).numpy().view(integer), rounded_pivot.view(same).numpy().view(integer)
        )

    def rows(
        self, parameter: str, layer: int | None, elements: int, names: Sequence[str], weights: Sequence[float]
    ) -> list[dict[str, Any]]:
        """The parameter's rows of the table."""
        place = {"parameter": parameter, "layer": layer, "elements": elements}
        rows = [
            {
                **place,
                "target": name,
                "weight": None if math.isnan(weights[k]) else weights[k],
                "delta_norm": math.sqrt(self.squares[k]),
                "kept_fraction": self.kept[k] / max(elements, 1),
                "sign_conflict_rate": self.conflicts[k] / self.kept[k] if self.kept[k] else None,
            }
            for k, name in enumerate(names)
        ]
        result = {
            **place,
            "target": MERGED,
            "weight": None,
            "delta_norm": math.sqrt(self.moved_square),
            "kept_fraction": self.moved / max(elements, 1),
            "sign_conflict_rate": None,
        }
        return [*rows, result]


def write_coefficients(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """The table as Parquet; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = pa.schema(
        [
            ("parameter", pa.string()),
            ("target", pa.string()),
            ("layer", pa.int32()),
            ("elements", pa.int64()),
            ("weight", pa.float64()),
            ("delta_norm", pa.float64()),
            ("kept_fraction", pa.float64()),
            ("sign_conflict_rate", pa.float64()),
        ]
    )
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)
