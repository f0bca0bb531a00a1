"""One line of the self-check: a figure that this installation computes beside the one that was published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """`quantity` of `model` on `benchmark`, both numbers in the published unit.

    `ok` is False where they differ by more than `tolerance`, or where either is missing (None: it cannot be computed
    here, or was not published); `note` says what a reader must know of the row.
    """

    benchmark: str
    model: str
    quantity: str
    ours: float | None
    published: float | None
    tolerance: float
    note: str = ""

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ValueError(f"tolerance is {self.tolerance}: expected 0 or more")

    @property
    def difference(self) -> float | None:
        """Ours minus published; None where either is missing."""
        return None if self.ours is None or self.published is None else self.ours - self.published

    @property
    def ok(self) -> bool:
        return self.difference is not None and abs(self.difference) <= self.tolerance
