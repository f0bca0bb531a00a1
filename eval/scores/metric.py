"""What a benchmark says of a metric that it reports: its unit, whether more of it is better, how tables print it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["rating", "percent", "share", "characters", "count"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a benchmark, as scores.csv has it."""

    name: str
    unit: Unit
    # 1: more is better, -1: less is, 0: it describes the answers, the judge or another number's precision.
    sense: Literal[1, 0, -1] = 1
    # Digits after the point, in tables.
    decimals: int
    # The columns of the leaderboard that show it: (slice, heading).
    shown: tuple[tuple[str, str], ...] = ()
    # What plots call it, without its unit.
    title: str = ""
    # Whether its items are parts of a whole, from none to all of it, as a comparison won or a question answered right.
    proportion: bool = False
    # The least and the most that an item can have, in this unit, where neither proportion nor rating says so.
    between: tuple[float, float] | None = None
    # The metric that says the same with the answers' length taken out.
    length_controlled: str | None = None

    @property
    def scale(self) -> float:
        """What takes an item's value to this unit: items of percentages are shares."""
        return 100.0 if self.unit == "percent" else 1.0

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the most that an item can have, in this unit; None where no bound is known."""
        if self.proportion:
            return 0.0, self.scale
        return (1.0, 10.0) if self.unit == "rating" and self.sense else self.between

    def of_judge(self) -> tuple[Metric, Metric]:
        """What repeated verdicts say of the judge's own noise in it: standard deviation, and share in percent."""
        deviation = Metric(name=f"{self.name}_judge_sd", unit=self.unit, sense=0, decimals=self.decimals)
        return deviation, Metric(name=f"{self.name}_judge_share", unit="percent", sense=0, decimals=1)
