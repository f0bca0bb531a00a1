"""No tracker: the cell's folder is all there is."""

from __future__ import annotations

from dataclasses import dataclass

from ablations.tracking.record import CellRecord


@dataclass(frozen=True, kw_only=True)
class NoTracking:
    """Logs nothing."""

    @property
    def package(self) -> None:
        """Needs none."""
        return None

    def log(self, record: CellRecord) -> None:
        """Nothing."""
