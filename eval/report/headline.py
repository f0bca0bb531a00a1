"""What a leaderboard found, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report.tables import DAGGER, LeaderboardRow, TableCell, rounded

# Whose result a run is made for, the first of these that it has; else whoever leads.
_MADE_FOR = (("Merged", "the best merge"), ("Targets", "the best target"))


def headline(rows: Sequence[LeaderboardRow], confidence: float) -> str:
    """The best model under the first heading that ranks, its estimate and its difference to the pivot, both with their
    intervals; nothing where nothing was scored.  Ensembles that know the answers are left out.
    """
    places = [place for place, cell in enumerate(rows[0].cells) if cell.heading.ranked] if rows else []
    for place in places:
        scored = [row for row in rows if row.cells[place].value is not None and row.role != "oracle"]
        if scored:
            return _sentence(scored, place, confidence)
    return ""


def _sentence(scored: Sequence[LeaderboardRow], place: int, confidence: float) -> str:
    groups = {row.group for row in scored}
    group, role = next(((one, said) for one, said in _MADE_FOR if one in groups), (None, ""))
    own = _best([row for row in scored if group in (None, row.group)], place)
    leader = _best(scored, place)
    cell = own.cells[place]
    decimals = cell.heading.decimals
    ends = _interval(cell.low, cell.high, decimals, sign=False)
    said = f"{own.model}{f', {role},' if role else ''} has {rounded(cell.value, decimals)} on {cell.heading.title}"
    said += f" ({confidence:.0%} interval {ends})" if ends else ""
    said += _beside(cell)
    if leader.cells[place].rank == 1 and cell.rank != 1:
        said += f"; {leader.model} leads with {rounded(leader.cells[place].value, decimals)}"
    return said + "."


def _best(rows: Sequence[LeaderboardRow], place: int) -> LeaderboardRow:
    return max(rows, key=lambda row: row.cells[place].value or 0.0)


def _beside(cell: TableCell) -> str:
    """How far from the pivot, and whether that is a finding."""
    if cell.difference is None:
        return ""
    if abs(cell.difference) < 1e-9:
        return ", as the pivot has on the same questions"
    decimals = cell.heading.decimals
    ends = _interval(cell.difference_low, cell.difference_high, decimals, sign=True)
    found = f"a difference that holds among all compared ({DAGGER})" if cell.differs else "which may well be chance"
    said = rounded(cell.difference, decimals, sign=True)
    return f", {said}{f' ({ends})' if ends else ''} to the pivot, {found}"


def _interval(low: float | None, high: float | None, decimals: int, *, sign: bool) -> str:
    if low is None or high is None:
        return ""
    return f"{rounded(low, decimals, sign=sign)} to {rounded(high, decimals, sign=sign)}"
