"""One line of the self-check: a figure that this installation computes beside the one that was published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """A figure of `model` on `benchmark`, ours and the published one; `ok` is False where either is missing."""

    benchmark: str
    model: str
    quantity: str  # which figure; both numbers are in the published unit
    ours: float | None  # None: it cannot be computed here
    published: float | None  # None: it was not published
    tolerance: float  # the largest difference that is no error
    note: str = ""  # what a reader must know of the row

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
