"""A study: one question about the recipe, what was claimed about it, and the comparison that answers it.

What is swept lies in conf/study/<name>.yaml; what is claimed and compared in ablations/studies/<name>.py:

    STUDY = Study(
        question="Which merge rule?",
        claim=Claim("SCE merges best.", source="FuseChat-2.0, section 3.3", arm=ArmChoice(model="sce")),
        held=("sources", "targets"),
        models=("linear", "ties", "sce"),
        reference=ArmChoice(model="linear"),
        limits="Targets of one pivot only.",
    )
    findings = STUDY.analyse(cells, uncertainty)

Every arm is compared with its reference on the same questions and seeds: a mean paired difference with its interval and
a p-value, over draws and questions where there are draws enough (`eval.report.comparisons.tested`).  A study is one
family: Holm's correction goes over every arm by every measure of whole benchmarks, the claim among them.  What is found
on slices is a second family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ablations.cell import Cell
from ablations.studies.arms import Arm, ArmChoice, arms_of
from ablations.studies.measures import measures_of, where
from ablations.studies.prediction import Prediction
from eval.benchmarks import judged, metric_of
from eval.report.comparisons import FAMILY_LEVEL, Comparison, Tested, corrected, tested
from eval.report.tables import Heading
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty
from eval.scores.metric import Unit


@dataclass(frozen=True)
class Claim:
    """A published statement: over all questions `arm` is better than its reference, or worse, or equal.

    Equal means no further apart than `margin`, by the metric's unit.  Raises ValueError for one without the other.
    """

    text: str
    source: str = field(kw_only=True)
    arm: ArmChoice = field(kw_only=True)
    expects: Literal["better", "worse", "equal"] = field(kw_only=True, default="better")
    margin: Mapping[Unit, float] | None = field(kw_only=True, default=None)

    def __post_init__(self) -> None:
        if (self.expects == "equal") != (self.margin is not None):
            given = "no margin" if self.margin is None else f"the margin {dict(self.margin)}"
            raise ValueError(
                f"the claim {self.text!r} expects {self.expects} and has {given}: equal needs one, such as"
                ' {"rating": 0.1}, the largest difference that counts as none; better and worse need none'
            )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One arm beside its reference on one slice, in the unit of scores.csv.

    `smallest` is the difference that would be a finding in 8 of 10 cases, as `eval.report.comparisons.would_mark` has
    it, `draws` the number of runs that differ in weights, `interval` what low, high and p are over, `family` the number
    of comparisons that `p_holm` was corrected over.
    """

    arm: str
    reference: str
    model: str
    axes: Mapping[str, str]
    benchmark: str
    metric: str
    slice: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest: float | None
    n: int
    draws: int
    interval: Literal["draws and questions", "questions"]
    family: int

    @property
    def whole(self) -> bool:
        """Whether it is of all questions of a benchmark or an lm-eval task, not of one category."""
        return _whole(self.benchmark, self.slice)

    @property
    def where(self) -> str:
        """As `measures.where`."""
        return where(self.benchmark, self.slice)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One question about the recipe, and the comparison that answers it."""

    question: str
    claim: Claim
    held: tuple[str, ...]  # what all arms share
    reference: ArmChoice
    limits: str  # what the study can and cannot conclude, whatever it finds
    models: tuple[str, ...] = ()  # the rows compared, in every setting; empty: all rows of the `groups`
    groups: tuple[str, ...] = ("Merged",)
    predictions: tuple[Prediction, ...] = ()  # written down before the study was run
    # Further lines of Markdown for the page, such as a table of something that is no score.
    also: Callable[[Sequence[Cell], Uncertainty], Sequence[str]] | None = None

    def analyse(self, cells: Sequence[Cell], uncertainty: Uncertainty) -> list[Finding]:
        """One finding per arm, measure and slice, those of whole benchmarks first; arms without a reference among the
        cells are left out."""
        arms = arms_of(cells, uncertainty)
        by_place = {(arm.model, _key(arm.axes)): arm for arm in arms}
        pairs = [(arm, other) for arm in arms if self._chosen(arm) and (other := self._reference(arm, by_place))]
        found: list[_Pair] = []
        for measure in measures_of(scored for arm in arms for scored in arm.scored.values()):
            place = measure.benchmark
            present = [(arm, other) for arm, other in pairs if {place} <= arm.scored.keys() & other.scored.keys()]
            scored = [(arm.scored[place], other.scored[place]) for arm, other in present]
            for part in _slices(scored, measure):
                results = tested(scored, measure.metric, part, uncertainty)
                found += [
                    _Pair(arm=arm, other=other, measure=measure, part=part, result=result)
                    for (arm, other), result in zip(present, results, strict=True)
                    if result is not None
                ]
        whole, parts = ([one for one in found if _whole(one.measure.benchmark, one.part) == of] for of in (True, False))
        return [*_family(whole), *_family(parts)]

    def claimed(self, found: Finding) -> bool:
        """Whether a finding is about the claim's arm."""
        return self.claim.arm.fits(found.model, found.axes)

    def verdict(self, found: Finding, *, level: float = FAMILY_LEVEL) -> str:
        """What a finding about the claim's arm says of the claim: supported, contradicted or not shown.

        A difference has to be one after the correction.  Equality is an interval within the margin, and its opposite
        one outside of it: that no difference was found is no sign of it.
        """
        marked = found.p_holm is not None and found.p_holm <= level
        if self.claim.margin is not None:
            return _equality(found, self.claim.margin.get(metric_of(found.benchmark, found.metric).unit), marked=marked)
        if not marked:
            return "not shown"
        return "supported" if (found.difference > 0) == (self.claim.expects == "better") else "contradicted"

    def _chosen(self, arm: Arm) -> bool:
        if self.models:
            return arm.model in self.models
        return any(scored.group in self.groups for scored in arm.scored.values())

    def _reference(self, arm: Arm, by_place: Mapping[tuple[str, tuple[tuple[str, str], ...]], Arm]) -> Arm | None:
        model = self.reference.model or arm.model
        axes = arm.axes if self.reference.axes is None else {**arm.axes, **self.reference.axes}
        found = by_place.get((model, _key(axes)))
        return None if found is arm else found


def _key(axes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(axes.items()))


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """An arm less another by one measure on one slice, not yet one of a family."""

    arm: Arm
    other: Arm
    measure: Heading
    part: str
    result: Tested


def _family(pairs: Sequence[_Pair]) -> list[Finding]:
    found = corrected([pair.result for pair in pairs])
    return [_finding(pair, one) for pair, one in zip(pairs, found, strict=True)]


def _whole(benchmark: str, part: str) -> bool:
    return part == "all" or judged(benchmark) is None


def _equality(found: Finding, margin: float | None, *, marked: bool) -> str:
    if margin is None or found.low is None or found.high is None:
        return "not shown"
    if -margin <= found.low and found.high <= margin:
        return "supported"
    outside = found.low > margin or found.high < -margin
    return "contradicted" if outside and marked else "not shown"


def _slices(pairs: Sequence[tuple[ScoredModel, ScoredModel]], measure: Heading) -> list[str]:
    """The measure's own slice, and where that is all questions their categories."""
    items = [item for scored, _ in pairs for item in scored.items] if measure.slice == "all" else []
    return [measure.slice, *dict.fromkeys(item.category for item in items if item.category)]


def _finding(pair: _Pair, found: Comparison) -> Finding:
    return Finding(
        arm=pair.arm.label,
        reference=pair.other.label,
        model=pair.arm.model,
        axes=pair.arm.axes,
        benchmark=pair.measure.benchmark,
        metric=pair.measure.metric,
        slice=pair.part,
        difference=found.difference.value,
        low=found.difference.low,
        high=found.difference.high,
        p=found.p,
        p_holm=found.p_holm,
        smallest=found.smallest,
        n=found.difference.n,
        draws=found.sampled.draws,
        interval=found.sampled.over,
        family=found.family,
    )
