"""Which checkpoints are asked side by side, and on which GPUs each of their servers runs.

    side_by_side = plan([["a1", "a2", "a3"], ["b"]], config.serve, lanes=1, gpus=("0", "1"))
    side_by_side.pieces    # (("a1", "a2"), ("a3",), ("b",)): what one server takes in turn, in place of a restart
    side_by_side.settings  # one server's settings for each that may run at once, pinned to GPUs of its own

Pure: what the machine has is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from eval.serve import Serve

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SideBySide(Generic[T]):
    """Pieces of work, the largest first, and the settings of the servers that take them, each taking the next piece."""

    pieces: tuple[tuple[T, ...], ...]
    settings: tuple[Serve, ...]


def plan(groups: Sequence[Sequence[T]], serve: Serve, *, lanes: int, gpus: Sequence[str]) -> SideBySide[T]:
    """Divide `groups`, each of one architecture, among the servers that fit.

    On GPUs (`gpus`: those that are visible) there are as many servers as fit, at most `serve.servers`, and a large
    group is cut so that all are busy.  Without, up to `lanes` servers share the machine and a group stays whole, since
    a second server for it would cost a start and win no hardware.  Raises Refusal for fewer GPUs than one server takes.
    """
    pinned = serve.side_by_side(gpus) if gpus else ()
    if not pinned:
        return SideBySide(pieces=_whole(groups), settings=(serve,) * (1 if serve.alone else lanes))
    return SideBySide(pieces=_cut(groups, len(pinned)), settings=pinned)


def _whole(groups: Sequence[Sequence[T]]) -> tuple[tuple[T, ...], ...]:
    return tuple(sorted(map(tuple, groups), key=len, reverse=True))


def _cut(groups: Sequence[Sequence[T]], servers: int) -> tuple[tuple[T, ...], ...]:
    """No piece is larger than a server's fair share of all, and those of one group differ by one at most."""
    share = math.ceil(sum(map(len, groups)) / servers)
    pieces = []
    for group in groups:
        parts = math.ceil(len(group) / share) if group else 0
        pieces += [group[len(group) * i // parts : len(group) * (i + 1) // parts] for i in range(parts)]
    return _whole(pieces)
