"""What a run could not teach, from its stages' facts: said while it runs, and below its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

LITTLE = 0.5
"""A source of which less than this is carried over is told about."""

LITTLE_REMOVED = 0.05
"""A shuffled control that moves less than this of the mass at the positions that sources teach is told about."""


def shortfalls(stage: str, what: str, facts: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that the stage `stage` of the model `what` had to leave out, by its facts."""
    return [*_SAID[stage](what, facts)] if stage in _SAID else []


def _aligned(what: str, facts: Mapping[str, Any]) -> Iterator[str]:
    positions, behind = facts.get("positions", 0), facts.get("behind_source", 0)
    if behind:
        yield (
            f"{what}: {behind:,} of the pivot's {positions:,} positions ({behind / positions:.1%}) lie behind the text"
            " that it read, which was cut at represent.max_length of its own tokens, so it knows nothing of them: raise"
            " represent.max_length"
        )
    moved, empty, given = facts.get("transferred", 0), facts.get("empty", 0), facts.get("given_mass")
    if given is None or not moved + empty:
        return
    # Where nothing has a pivot token nothing is kept, whatever was given there.
    carried = (facts["kept_mass"] / given if given else 0.0) * moved / (moved + empty)
    if carried < LITTLE:
        yield (
            f"{what}: {carried:.0%} of the probability that it gives where it is aligned falls on tokens that the"
            " vocabulary map has a pivot token for, so it teaches little; python -m fusion.align says for which kinds"
            " of text, and by which scheme it would be more"
        )


def _fused(what: str, facts: Mapping[str, Any]) -> Iterator[str]:
    if "removed" in facts:
        yield from _shuffled(what, facts)
        return
    taught = facts.get("taught_by", {})
    sources = set(taught) - {"label", "pivot"}
    if sources and not any(taught[name] for name in sources):
        yield (
            f"{what}: the fusion rule lets it teach at none of the {facts['positions']:,} positions, so its targets are"
            " the pivot's own and the labels: choose another rule, or fuse.fuse_with_pivot=false where the rule has it"
        )


def _shuffled(what: str, facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts["taught"]:
        yield (
            f"{what}: a source teaches at none of the {facts['positions']:,} positions, so nothing was shuffled and"
            " this control is its fused twin"
        )
    elif facts["removed"] < LITTLE_REMOVED:
        yield (
            f"{what}: shuffling moved {facts['removed']:.1%} of the mass at the {facts['taught']:,} positions that a"
            " source teaches, so this control has little to remove"
        )


def _trained(what: str, facts: Mapping[str, Any]) -> Iterator[str]:
    missing = facts.get("labels_without_target", 0)
    if missing:
        yield (
            f"{what}: {missing:,} of {facts['labels']:,} labelled tokens ({missing / facts['labels']:.1%}) have no"
            f" fused target and are learned as labels alone, in {facts['conversations_cut']:,} of"
            f" {facts['conversations']:,} conversations, of which {facts['conversations_without_target']:,} have none"
            " at all: train.max_length reads further than represent.max_length did; give both the same"
        )


_SAID: Mapping[str, Callable[[str, Mapping[str, Any]], Iterable[str]]] = {
    "align": _aligned,
    "fuse": _fused,
    "train": _trained,
}
