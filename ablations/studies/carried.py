"""What of the sources arrived at the pivot, by setting: positions, probability, and who taught in the end; and what the
control that shuffles took away of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.cell import Cell, facts_at, setting
from ablations.studies.deltas import mean_and_range
from eval.markdown import markdown_table


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Shares, 0 to 1, of one alignment of a source to the pivot's positions."""

    positions: float
    """Of the positions, those with a distribution of the source's."""
    labels: float
    """Those with the gold token alone; at the others nothing arrives, and the pivot stands in."""
    mass: float
    """Of the probability that the source gave to its kept tokens at the carried positions, what is on pivot tokens."""

    @property
    def of_all(self) -> float:
        """What arrives per position of the pivot, if the source gives at all positions what it gives at those."""
        return self.positions * self.mass


def carried(facts: Mapping[str, Any]) -> Carried | None:
    """The shares by an align stage's facts; None where there are none, or no position."""
    if not facts.get("positions"):
        return None
    given = facts["given_mass"]
    return Carried(
        positions=facts["transferred"] / facts["positions"],
        labels=facts["one_hot"] / facts["positions"],
        mass=facts["kept_mass"] / given if given else 0.0,
    )


def taught_by_sources(facts: Mapping[str, Any]) -> float | None:
    """The share of positions, 0 to 1, that sources teach by a fuse stage's facts; None where it has none."""
    taught = facts.get("taught_by")
    if not taught or len(taught) == 2:  # the pivot alone, or the control that shuffles
        return None
    return float(sum(share for name, share in taught.items() if name not in ("label", "pivot")))


def carried_table(cells: Sequence[Cell]) -> list[str]:
    """A Markdown table of what each setting's alignments carry and what its fused targets take of it: mean and range
    over sources and seeds, an artifact that several cells share once in each.  A setting that reads no source has no
    figures."""
    alignments: dict[str, dict[str, Carried]] = {}
    taught: dict[str, dict[str, float]] = {}
    for cell in cells:
        arrived = alignments.setdefault(setting(cell.axes), {})
        arrived |= {key: one for key, facts in _noted(cell, "align") if (one := carried(facts)) is not None}
        teaching = taught.setdefault(setting(cell.axes), {})
        teaching |= {
            key: share for key, facts in _noted(cell, "fuse") if (share := taught_by_sources(facts)) is not None
        }
    rows = [
        [
            where,
            mean_and_range([100 * one.positions for one in found.values()], unit="%"),
            mean_and_range([100 * one.labels for one in found.values()], unit="%"),
            mean_and_range([100 * one.mass for one in found.values()], unit="%"),
            mean_and_range([100 * one.of_all for one in found.values()], unit="%"),
            mean_and_range([100 * share for share in taught[where].values()], unit="%"),
            str(len(found)),
        ]
        for where, found in alignments.items()
    ]
    heads = ("setting", "positions carried", "label alone", "mass kept there", "mass kept of all", "taught by sources")
    return [
        "",
        "What is carried over of the sources, shares of the pivot's labelled positions and of the probability that a"
        " source gives to the tokens it keeps, mean (least to most) over sources and seeds; the last share is of the"
        " fused targets, by the rule that chooses who teaches:",
        "",
        *markdown_table((*heads, "n"), rows),
    ]


def shuffled_table(cells: Sequence[Cell]) -> list[str]:
    """A Markdown table of what the shuffled targets of each setting lost (fusion.fuse.shuffle): mean and range over
    targets and seeds.  Nothing where no setting shuffles."""
    settings: dict[str, dict[str, Mapping[str, Any]]] = {}
    for cell in cells:
        for key, facts in _noted(cell, "fuse"):
            if facts.get("positions") and "removed" in facts:
                settings.setdefault(setting(cell.axes), {})[key] = facts
    rows = [
        [
            where,
            mean_and_range([100 * facts["taught"] / facts["positions"] for facts in found.values()], unit="%"),
            mean_and_range([100 * facts["removed"] for facts in found.values()], unit="%"),
            mean_and_range([100 * facts["removed_of_all"] for facts in found.values()], unit="%"),
            str(len(found)),
        ]
        for where, found in settings.items()
    ]
    if not rows:
        return []
    return [
        "",
        "What shuffling takes away, mean (least to most) over targets and seeds: the share of positions that a source"
        " teaches, and the probability that moves there from the tokens it names to others:",
        "",
        *markdown_table(("setting", "taught by the source", "moved there", "moved of all", "n"), rows),
    ]


def _noted(cell: Cell, stage: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Keys and facts of the cell's artifacts of this stage."""
    for record in cell.stages:
        if record.stage == stage:
            yield record.key, facts_at(Path(record.path))
