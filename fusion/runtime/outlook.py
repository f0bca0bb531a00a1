"""How far a run is among all its stages, and how long the rest will take: told by a plan, put right as stages end."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

_TRUSTED = 5.0  # planned seconds behind a run before its own pace counts


@dataclass(kw_only=True)
class Outlook:
    """The stages that a run will ask for, and how long each should take; safe to use from several threads.

    A stage is known by its name and what it makes, so several may share both.
    """

    total: int = 0
    done: int = 0
    _lanes: int = 1
    _seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    _planned: float = 0.0  # seconds of the stages that were computed, as planned
    _taken: float = 0.0  # as they were
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, stages: Iterable[tuple[str, str, float]], *, lanes: int) -> None:
        """The stages of the run, as (stage, what, seconds); 0 seconds for one that is there already."""
        self._lanes = lanes
        for stage, what, seconds in stages:
            self._seconds.setdefault((stage, what), []).append(seconds)
            self.total += 1

    def ended(self, stage: str, what: str, *, seconds: float, reused: bool) -> None:
        """A stage was computed in so many seconds, or found."""
        with self._lock:
            waiting = self._seconds.get((stage, what))
            if not waiting:  # not in the plan
                return
            planned = waiting.pop()
            self.done += 1
            if not reused:
                self._planned += planned
                self._taken += seconds

    def left(self) -> str:
        """Such as "about 6 minutes left"; empty when nothing is."""
        with self._lock:
            seconds = sum(map(sum, self._seconds.values()))
            pace = self._taken / self._planned if self._planned > _TRUSTED else 1.0
        return f"about {_spoken(seconds * pace / self._lanes)} left" if seconds else ""

    def text(self) -> str:
        """Such as "31 of 76 stages, about 6 minutes left"; empty without a plan."""
        if not self.total:
            return ""
        left = self.left()
        return f"{self.done} of {self.total} stages" + (f", {left}" if left else "")


@functools.cache
def process_outlook() -> Outlook:
    """Of the one run of this process: who plans it fills it in, who runs it shows it."""
    return Outlook()


def _spoken(seconds: float) -> str:
    for unit, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
