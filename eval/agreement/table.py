"""Agreement between every two raters, and of a rater that voted repeatedly with itself, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from eval.agreement.votes import TIE, Item, VoteKind, Votes
from eval.markdown import inert, markdown_table
from eval.scores.agreement import STATISTICS, agreement, fleiss_agreement, percent_agreement
from eval.scores.intervals import Interval, Uncertainty
from eval.spreadsheet import rows_csv

COLUMNS = ("first", "second", "kind", "statistic", "value", "low", "high", "n", "items")


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """`found` is None where the statistic is not defined; its `n` counts pairs of votes, `items` what they are on."""

    first: str
    second: str
    kind: str
    statistic: str
    found: Interval | None
    items: int


def agreement_rows(raters: Sequence[Votes], uncertainty: Uncertainty) -> list[AgreementRow]:
    """Rows for every two raters of one kind that share an item, then for each with itself where it voted twice.

    All pairs of votes on an item count, one of each rater.  Of preferences, agreement and kappas are on the side
    (first, tie, second), rank correlation is on the value; `percent_agreement_no_ties` leaves out pairs with a tie.
    The last rows are of three raters or more at once.
    """
    rows = []
    for first, second in [*combinations(raters, 2), *((rater, rater) for rater in raters)]:
        pairs = [*_pairs(first, second)] if first.kind == second.kind else []
        if not pairs:
            continue
        questions = [item[0] for item, _, _ in pairs]
        left, right = (np.array([pair[side] for pair in pairs]) for side in (1, 2))
        sides = (np.sign(left - TIE), np.sign(right - TIE)) if first.kind == "preference" else (left, right)
        found = {
            name: agreement(statistic, *((left, right) if name == "spearman" else sides), questions, uncertainty)
            for name, statistic in STATISTICS.items()
        }
        if first.kind == "preference":
            kept = np.flatnonzero((sides[0] != 0) & (sides[1] != 0))
            decided = [questions[i] for i in kept]
            found["percent_agreement_no_ties"] = agreement(
                percent_agreement, sides[0][kept], sides[1][kept], decided, uncertainty
            )
        for name, interval in found.items():
            if interval is not None and first is second:
                interval = replace(interval, n=interval.n // 2)
            rows.append(
                AgreementRow(
                    first=first.rater,
                    second=second.rater,
                    kind=first.kind,
                    statistic=name,
                    found=interval,
                    items=len({item for item, _, _ in pairs}),
                )
            )
    return [*rows, *(row for kind in ("rating", "preference") if (row := _of_all(raters, kind, uncertainty)))]


def _of_all(raters: Sequence[Votes], kind: VoteKind, uncertainty: Uncertainty) -> AgreementRow | None:
    """Fleiss' kappa where three raters or more voted once each on the same items; of preferences on the side."""
    held = [rater for rater in raters if rater.kind == kind]
    if len(held) < 3:
        return None
    shared = [item for item in held[0].by_item if all(len(rater.by_item.get(item, ())) == 1 for rater in held)]
    if not shared:
        return None
    votes = np.array([[rater.by_item[item][0] for rater in held] for item in shared])
    if kind == "preference":
        votes = np.sign(votes - TIE)
    counts = np.stack([np.sum(votes == value, axis=1) for value in np.unique(votes)], axis=1)
    return AgreementRow(
        first=f"all {len(held)} raters",
        second="",
        kind=kind,
        statistic="fleiss_kappa",
        found=fleiss_agreement(counts, [item[0] for item in shared], uncertainty),
        items=len(shared),
    )


def as_csv(rows: Sequence[AgreementRow]) -> str:
    """One line per row, unrounded; an undefined statistic has no value."""
    lines: list[Sequence[object]] = [COLUMNS]
    for row in rows:
        found = row.found
        numbers = (None, None, None, 0) if found is None else (found.value, found.low, found.high, found.n)
        lines.append([row.first, row.second, row.kind, row.statistic, *numbers, row.items])
    return rows_csv(lines)


def as_markdown(rows: Sequence[AgreementRow], uncertainty: Uncertainty) -> str:
    """A GitHub table: one line per two raters, one column per statistic, intervals in brackets."""
    names = [*STATISTICS, *(["percent_agreement_no_ties"] if any(row.kind == "preference" for row in rows) else [])]
    by_pair: dict[tuple[str, str], dict[str, AgreementRow]] = {}
    whole = [row for row in rows if row.statistic == "fleiss_kappa"]
    for row in [row for row in rows if row not in whole]:
        by_pair.setdefault((row.first, row.second), {})[row.statistic] = row
    titles = ["", "", "items", "pairs", *(name.replace("_", " ") for name in names)]
    lines = []
    for (first, second), found in by_pair.items():
        some = found["percent_agreement"]
        pairs = some.found.n if some.found else 0
        other = "itself" if first == second else second
        cells = [_cell(found[name].found) if name in found else "" for name in names]
        lines.append([first, other, str(some.items), str(pairs), *cells])
    note = (
        f"Brackets: {uncertainty.confidence:.0%} interval over questions: score intervals for agreement, the jackknife"
        " on Fisher's z for the rest, which has none below three questions, nor at full agreement."
    )
    said = [
        f"{inert(row.first)} on {row.items} shared {row.kind}s: Fleiss' kappa {_cell(row.found)}.\n" for row in whole
    ]
    return "\n".join([*markdown_table(titles, lines), "", *said, note, ""])


def _pairs(first: Votes, second: Votes) -> Iterator[tuple[Item, float, float]]:
    if first is second:  # each two votes in both orders, since neither came first
        for item, values in first.by_item.items():
            for i, left in enumerate(values):
                yield from ((item, left, right) for j, right in enumerate(values) if i != j)
        return
    for item, values in first.by_item.items():
        for right in second.by_item.get(item, ()):
            yield from ((item, left, right) for left in values)


def _cell(found: Interval | None) -> str:
    if found is None:
        return "—"
    return f"{found.value:.3f}" + ("" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]")
