"""A prediction: what a study will find, in which direction and how far, written down before it is run.

    Prediction(
        "Where all labels are wrong, fused targets are better than labels.",
        arm=ArmChoice(model="linear", axes={"row": "controls/fused", "data.pocket.wrong_share": "1"}),
        expects="better",
        size=(0.2, 0.8),
        made=date(2026, 11, 20),
    )

A range that was named beforehand can also be missed on the side that was hoped for, and it makes "equal" a statement
that can come out right: an interval that lies within the range.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from ablations.studies.arms import ArmChoice

DirectionVerdict = Literal["right", "wrong", "not shown", "no claim"]
SizeVerdict = Literal["within", "below", "above", "not told"]


@dataclass(frozen=True)
class Prediction:
    """Where the difference of two arms will lie.

    `size` holds its ends in the unit of the measure, as arm less reference: both below zero where `worse` is expected.
    Raises ValueError for a range that contradicts the direction, and for `equal` without one.
    """

    text: str
    arm: ArmChoice = field(kw_only=True)
    reference: ArmChoice | None = field(kw_only=True, default=None)  # None: the study's own
    expects: Literal["better", "worse", "equal", "no claim"] = field(kw_only=True)
    size: tuple[float, float] | None = field(kw_only=True, default=None)
    # As `measures.where` names it: a benchmark, or one with a task or category ("mt_bench numbers").
    measure: str = field(kw_only=True, default="mt_bench")
    made: date = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.size is None:
            if self.expects == "equal":
                raise ValueError(
                    f"{self.text!r} expects equal and has no size: say how far apart still counts as equal"
                )
            return
        low, high = self.size
        if low > high:
            raise ValueError(f"the size of {self.text!r} is {self.size}: expected (low, high)")
        if not {"better": low >= 0, "worse": high <= 0, "equal": low <= 0 <= high, "no claim": True}[self.expects]:
            raise ValueError(
                f"{self.text!r} expects {self.expects}, and its size is {self.size}: expected a range of arm less"
                " reference that says the same"
            )

    def direction(self, low: float | None, high: float | None, *, found: bool) -> DirectionVerdict:
        """Whether a result with this interval bears the prediction out.

        `found` says whether the study counts its difference as a finding, after whatever correction it makes; a
        difference in a direction needs that and an interval without zero.  Equality needs an interval within the range,
        and is wrong where the interval lies outside of it.
        """
        if self.expects == "no claim":
            return "no claim"
        if self.expects == "equal":
            held: DirectionVerdict = "right" if (size := self.size_of(low, high)) == "within" else "wrong"
            return "not shown" if size == "not told" else held
        if low is None or high is None or low <= 0 <= high or not found:
            return "not shown"
        return "right" if (low > 0) == (self.expects == "better") else "wrong"

    def size_of(self, low: float | None, high: float | None) -> SizeVerdict:
        """Where the whole interval lies beside the predicted range; not told where it reaches over an end of it."""
        if self.size is None or low is None or high is None:
            return "not told"
        least, most = self.size
        if least <= low and high <= most:
            return "within"
        return "below" if high < least else "above" if low > most else "not told"
