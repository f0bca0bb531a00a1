"""Several comparisons at once: p-values adjusted so that any false finding among them stays rare (Holm 1979)."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values in the order given: rejecting those up to `a` makes a false one among them rarer than `a`.

    Step-down: with the m known values sorted, the i-th (from 0) is max over j <= i of (m - j) * p_j, at most 1.  It
    needs no independence.  None marks a comparison that could not be made: it stays None and counts towards nothing.
    Raises ValueError for a value outside 0 to 1.
    """
    known = [(p, place) for place, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        if not 0 <= p <= 1:
            raise ValueError(f"p-value {p} at place {place}: expected a number from 0 to 1")
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted
