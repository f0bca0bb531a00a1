"""How often every kind of interval holds a planted truth: `python -m bench.coverage`, or `make bench ARGS=coverage`.

A case plants a truth, draws samples of it and asks the very functions that the tables ask.  Ten thousand samples tell a
coverage to within 0.4 points, two thousand to within one.  `docs/coverage.md` keeps the printed table;
`tests/bench/test_coverage.py` draws fewer.
"""

from __future__ import annotations

import math
import sys

from bench.planted import Coverage, Planted, coverage
from bench.planted_crossed import crossed
from bench.planted_fits import agreement, length_controlled, noise_of_judges
from bench.planted_means import between_ends, without_ends
from bench.row import BenchRow

PLANTED: tuple[Planted, ...] = (
    *between_ends(),
    *without_ends(),
    *agreement(),
    *noise_of_judges(),
    *length_controlled(),
    *crossed(),
)


def rows() -> list[BenchRow]:
    """Every planted truth beside the band it should lie in."""
    found = []
    for planted in PLANTED:
        one = coverage(planted)
        low, high = planted.band
        # Where hardly any sample has an interval, those few say nothing.
        reached = None if one.refused > 0.5 else round(low, 3) <= round(one.held, 3) <= round(high, 3)
        found.append(
            BenchRow(what=planted.name, measured=_spelled(one), bar=f"{low:.0%} to {high:.0%}", reached=reached)
        )
    return found


def _spelled(one: Coverage) -> str:
    if math.isnan(one.held):
        return "none given"
    return f"{one.held:.1%}, width {one.width:.3g}" + (f", {one.refused:.1%} without" if one.refused else "")


def main() -> None:
    """Print the Markdown table of docs/coverage.md."""
    print("| interval | truth | n | samples | coverage % | mean width | without % |\n|---|---|---|---|---|---|---|")
    for planted in PLANTED:
        one = coverage(planted)
        held = "—" if math.isnan(one.held) else f"{100 * one.held:.1f}"
        width = "—" if math.isnan(one.width) else f"{one.width:.3g}"
        print(
            f"| {planted.kind} | {planted.truth} | {planted.questions} | {planted.times:,} | {held} | {width}"
            f" | {100 * one.refused:.1f} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
