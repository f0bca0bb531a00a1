"""Judging: every judge's verdicts on every model's answers, kept as artifacts; repeats and panels made one.

    judged = Judging(config, progress).all(jobs)      # one Judged per job, in order

One judge at a time judges all models and benchmarks, so that a judge model of our own is served once.  The verdicts of
a panel's member have the same key as those of the same judge alone; combining them is arithmetic.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.benchmarks.slots import NOBODY
from eval.config import EvalConfig
from eval.judges import Judge, Member
from eval.judging.cost import cost
from eval.judging.estimate import announce_cost, cost_note
from eval.judging.judgement import Judgement, JudgingJob, Records, by_judge, judgements
from eval.judging.repeats import collapse
from eval.scored import JudgeCost
from fusion.runtime.artifacts import Store
from fusion.runtime.progress import RunProgress


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts on one model's answers to one benchmark."""

    job: JudgingJob
    verdicts: Records  # one per place: what the benchmark reads
    said: Records  # every record behind them: repetitions, members and all
    members: Mapping[str, Records]  # of a panel, each member's own verdicts, before it saw the others'
    costs: tuple[JudgeCost, ...]  # of every judge model


class Judging:
    """The judges of one evaluation.  `notes` are sentences for the report, complete after `all`.

    `expect` is called with all that is to be judged before the first judge is asked; without, the cost is said and held
    against the judges' budgets.  A planner gives a `store` that computes nothing.
    """

    def __init__(
        self,
        config: EvalConfig,
        progress: RunProgress,
        store: Store | None = None,
        expect: Callable[[Sequence[Judgement]], None] | None = None,
    ) -> None:
        self.config = config
        self.progress = progress
        self.store = store or Store(root=config.artifacts, reuse=config.reuse)
        self.weights_of = functools.cache(self.store.directory_key)
        self.expect = expect or functools.partial(announce_cost, say=progress.note)
        self.notes: list[str] = []

    def all(self, jobs: Sequence[JudgingJob]) -> list[Judged]:
        """Raises Refusal when a judge is not available, would exceed its budget, or must not judge its own family."""
        by_job = [judgements(job, self.config, self.store, self.weights_of) for job in jobs]
        every = [judgement for layers in by_job for layer in layers for judgement in layer.values()]
        self._look_for_kin(every)
        self.expect(every)
        for layer in (1, 2):
            for judge, own in by_judge([judgement for judgement in every if judgement.layer == layer]):
                with contextlib.ExitStack() as stack:
                    asker = self._starter(judge, stack)
                    for judgement in own:
                        judgement.ask(asker, self.progress)
        judged = [_judged(layers) for layers in by_job]
        self.notes += cost_note([found for one in judged for found in one.costs])
        return judged

    def _starter(self, judge: Member, stack: contextlib.ExitStack) -> Callable[[], Judge]:
        """Who is asked, started at the first call and ended with `stack`."""
        logs, say = self.config.artifacts / "logs", self.progress.note
        return functools.cache(lambda: judge.running(self.config.serve, stack, logs=logs, say=say))

    def _look_for_kin(self, every: Sequence[Judgement]) -> None:
        judges = [judge for judge, _ in by_judge(every) if judge.is_model]
        own = {
            judge.label: {one.job.candidate.model for one in every if one.job.candidate.weights == weights}
            for judge in judges
            if judge.directory is not None and (weights := self.weights_of(judge.directory))
        }
        for note in self.config.kinship.notes(judges, own):
            self.notes.append(note)
            self.progress.note(note)


def _judged(layers: Sequence[Mapping[str, Judgement]]) -> Judged:
    """All that was said on one model's answers, and the one verdict per place that it comes to."""
    every = [judgement for layer in layers for judgement in layer.values()]
    job, plan = every[0].job, every[0].plan
    panel = every[0].config.judges[job.entry].board
    costs = tuple(
        cost(
            one.judge,
            [record for record in one.records if record.judge != NOBODY],
            model=job.candidate.model,
            benchmark=job.benchmark.name,
            layer=one.layer,
            asked=one.asked,
        )
        for one in every
        if one.judge.is_model
    )
    if panel is None:
        said = every[0].records
        return Judged(job=job, verdicts=collapse(said), said=said, members={}, costs=costs)
    looks = [
        {name: {record.place: record for record in collapse(one.records)} for name, one in layer.items()}
        for layer in layers
    ]
    verdicts: Records = [*plan.settled]
    for request in plan.requests:
        seen = [{name: found[request.place] for name, found in look.items()} for look in looks]
        verdicts.append(panel.aggregate(request, seen))
    row = {question.id: number for number, question in enumerate(job.benchmark.questions)}
    verdicts.sort(key=lambda record: (row[record.question_id], record.place))
    asked = {request.place for request in plan.requests}
    own = {name: [record for record in found.values() if record.place in asked] for name, found in looks[0].items()}
    said = [*verdicts, *(record for one in every for record in one.records if record.judge != NOBODY)]
    return Judged(job=job, verdicts=verdicts, said=said, members=own, costs=costs)
