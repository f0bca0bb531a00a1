"""What a merge did to each parameter: one row for each target, and one for the result.

parameter, layer, elements
target              the target's name, or "(merged)"
weight              the coefficient the rule gave the target here (eta of SCE, w of VaRM); empty where it varies
                    within the parameter, and for the result
delta_norm          L2 norm of the task vector; for the result, of merged minus pivot before rounding
kept_fraction       entries of the task vector that are not zero after trimming, dropping or selecting, of all;
                    for the result, entries that are not the pivot's in the stored type
sign_conflict_rate  of those kept, the share whose sign is not the elected one (rules that elect none: the sign of
                    the sum); empty where nothing was kept, and for the result
update_cosine       for the result: cosine of stored minus pivot with merged minus pivot before rounding, the pivot in
                    the stored type too; empty where either is zero, and for targets
update_norm_ratio   for the result: L2 norm of stored minus pivot by delta_norm; 1 where nothing is rounded; empty
                    where delta_norm is zero, and for targets
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from fusion.merge.parameter import Combined, Piece
from fusion.rounding import UpdateTally

if TYPE_CHECKING:
    from torch import Tensor

MERGED = "(merged)"
_NONE = np.empty((1, 0), np.float32)


class CoefficientRow(TypedDict):
    """What the merge did with one parameter of one target, or of the merged model: a row of `coefficients.parquet`."""

    parameter: str
    layer: int | None
    elements: int
    target: str
    weight: float | None
    delta_norm: float
    kept_fraction: float
    sign_conflict_rate: float | None
    update_cosine: float | None
    update_norm_ratio: float | None


class Tally:
    """Counts over the pieces of one parameter, filled while they are merged."""

    def __init__(self, targets: int) -> None:
        self.squares = np.zeros(targets)
        self.kept = np.zeros(targets, np.int64)
        self.conflicts = np.zeros(targets, np.int64)
        self.moved_square = 0.0
        self.update = UpdateTally()

    def add(self, piece: Piece, combined: Combined, rounded: Tensor) -> None:
        """Count one piece; `rounded` is what is stored of it."""
        from fusion.merge import compiled

        vectors = _NONE if combined.vectors is None else combined.vectors.numpy()
        elected = _NONE[0] if combined.elected is None else combined.elected.numpy()
        self.moved_square += compiled.tally(
            piece.rows, combined.merged.numpy(), vectors, elected, self.squares, self.kept, self.conflicts
        )
        self.update.add(piece.pivot, combined.merged, rounded)

    @property
    def finite(self) -> bool:
        """Whether everything so far is; a single NaN or infinity among the models or in the result says no."""
        return math.isfinite(self.moved_square) and bool(np.isfinite(self.squares).all())

    def rows(
        self, parameter: str, layer: int | None, elements: int, names: Sequence[str], weights: Sequence[float]
    ) -> list[CoefficientRow]:
        """The parameter's rows of the table."""
        rows: list[CoefficientRow] = [
            {
                "parameter": parameter,
                "layer": layer,
                "elements": elements,
                "target": name,
                "weight": None if math.isnan(weights[k]) else weights[k],
                "delta_norm": math.sqrt(square),
                "kept_fraction": kept / max(elements, 1),
                "sign_conflict_rate": conflicts / kept if kept else None,
                "update_cosine": None,
                "update_norm_ratio": None,
            }
            for k, (name, square, kept, conflicts) in enumerate(
                zip(names, self.squares.tolist(), self.kept.tolist(), self.conflicts.tolist(), strict=True)
            )
        ]
        stored = self.update.kept()
        result: CoefficientRow = {
            "parameter": parameter,
            "layer": layer,
            "elements": elements,
            "target": MERGED,
            "weight": None,
            "delta_norm": math.sqrt(self.moved_square),
            "kept_fraction": stored.moved,
            "sign_conflict_rate": None,
            "update_cosine": stored.cosine,
            "update_norm_ratio": stored.norm_ratio,
        }
        return [*rows, result]


def write_coefficients(rows: Sequence[CoefficientRow], file: Path) -> None:
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
            ("update_cosine", pa.float64()),
            ("update_norm_ratio", pa.float64()),
        ]
    )
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)
