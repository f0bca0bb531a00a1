"""Judging: every judge's verdicts on every model's answers, kept as artifacts; repeats and panels made one.

    judged = Judging(config, progress).all(jobs)      # one Judged per job, in order

One judge at a time judges all models and benchmarks, so that a judge model of our own is served once.  The verdicts of
a panel's member have the same key as those of the same judge alone; combining them is arithmetic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.benchmarks.protocol import JudgingPlan
from eval.benchmarks.slots import NOBODY
from eval.config import EvalConfig
from eval.judges import Judge
from eval.judging.asking import JOURNAL, JudgingJob, Keeping, Sitting, by_judge, seats, sittings_of
from eval.judging.collect import collect_verdicts, needs_asking
from eval.judging.cost import cost
from eval.judging.estimate import announce_cost, cost_note
from eval.judging.repeats import collapse
from eval.judging.review import review_request
from eval.records import Unscored, Verdict, read_verdicts, write_records
from eval.scored import JudgeCost
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Advance, Stage, Unfinished

Records = list[Verdict | Unscored]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts on one model's answers to one benchmark."""

    job: JudgingJob
    verdicts: Records  # one per place: what the benchmark reads
    said: Records  # every record behind them: repetitions, members and all
    members: Mapping[str, Records]  # of a panel, each member's own verdicts, before it saw the others'
    costs: tuple[JudgeCost, ...]  # of every judge model


class Judging:
    """The judges of one evaluation.  `notes` are sentences for the report, complete after `all`."""

    def __init__(self, config: EvalConfig, progress: RunProgress) -> None:
        self.config = config
        self.keeping = Keeping(config)
        self.progress = progress
        self.notes: list[str] = []
        self._records: dict[tuple[int, str, int], Records] = {}  # by seat
        self._asked: dict[tuple[int, str, int], int] = {}

    def all(self, jobs: Sequence[JudgingJob]) -> list[Judged]:
        """Raises Refusal when a judge is not available, would exceed its budget, or must not judge its own family."""
        plans = [job.benchmark.plan(job.answers) for job in jobs]
        sittings = sittings_of(jobs, plans, self.config)
        self._look_for_kin(sittings)
        announce_cost(sittings, self.keeping, self.progress.note)
        for layer in (1, 2):
            for judge, held in by_judge([sitting for sitting in sittings if sitting.layer == layer]):
                with contextlib.ExitStack() as stack:
                    logs = self.config.artifacts / "logs"
                    asker = judge.running(self.config.serve, stack, logs=logs, say=self.progress.note)
                    for sitting in held:
                        self._sit(sitting, asker)
        judged = [self._judged(number, job, plan) for number, (job, plan) in enumerate(zip(jobs, plans, strict=True))]
        self.notes += cost_note([found for one in judged for found in one.costs])
        return judged

    def _look_for_kin(self, sittings: Sequence[Sitting]) -> None:
        judges = [judge for judge, _ in by_judge(sittings) if judge.is_model]
        own = {
            judge.label: {s.job.candidate.model for s in sittings if s.job.candidate.weights == weights}
            for judge in judges
            if judge.directory is not None and (weights := self.keeping.weights(judge.directory))
        }
        for note in self.config.kinship.notes(judges, own):
            self.notes.append(note)
            self.progress.note(note)

    def _sit(self, sitting: Sitting, asker: Judge) -> None:
        found = [record for repeat in range(sitting.repeats) for record in self._verdicts(sitting, asker, repeat)]
        # Equal weights, or the same file, under another name share their verdicts.
        label = sitting.judge.label + (" (after review)" if sitting.layer == 2 else "")
        self._records[sitting.seat] = [r if r.judge == NOBODY else replace(r, judge=label) for r in found]

    def _verdicts(self, sitting: Sitting, asker: Judge, repeat: int) -> Records:
        """One repetition: one record per request of the plan, each on disk before the next is asked."""
        job = sitting.job
        plan, waiting = self._plan(sitting, repeat)

        def build(out: Path, advance: Advance) -> Mapping[str, object]:
            done = 0

            def counted(_: object) -> None:
                nonlocal done
                done += 1
                self._asked[sitting.seat] = self._asked.get(sitting.seat, 0) + 1
                advance(done, len(plan.requests))

            found = collect_verdicts(
                benchmark=job.benchmark,
                plan=plan,
                judge=asker,
                journal=out / JOURNAL,
                readings=sitting.readings,
                on_verdict=counted,
            )
            missing = sum(map(needs_asking, found)) + len(waiting)
            if missing:
                raise Unfinished([*found, *waiting], missing)
            write_records(out / "verdicts.jsonl", found)
            return {"verdicts": len(found), "unscored": sum(isinstance(v, Unscored) for v in found)}

        named = " · ".join(filter(None, (job.candidate.model, job.entry, sitting.name)))
        recipe = self.keeping.recipe(sitting, repeat)
        libraries = self.keeping.libraries(sitting)
        stage = Stage(**vars(recipe), what=named, build=build, libraries=libraries)
        try:
            artifact = self.progress.produce(self.keeping.store, stage)
        except Unfinished as unfinished:
            self.progress.note(f"{named}: {unfinished} verdicts are missing; repeat the command to ask again")
            records: Records = unfinished.records
            return records
        return read_verdicts(artifact.path / "verdicts.jsonl")

    def _plan(self, sitting: Sitting, repeat: int) -> tuple[JudgingPlan, Records]:
        """What is asked, and what must wait because a first-layer reply is still missing."""
        plan = sitting.asking(repeat)
        if sitting.layer == 1:
            return plan, []
        panel = self.config.judges[sitting.job.entry].board
        assert panel is not None
        first = {
            name: {record.place: record for record in self._records[sitting.number, name, 1]} for name in panel.members
        }
        asked, settled, waiting = [], [], []
        for request in plan.requests:
            reviews = {name: records[(*request.place[:4], 0)] for name, records in first.items()}
            blank = Unscored(
                question_id=request.question_id,
                turn=request.turn,
                reason="no review of the first layer to read",
                judge=sitting.judge.label,
                opponent=request.opponent,
                order=request.order,
                repeat=repeat,
            )
            if any(map(needs_asking, reviews.values())):
                waiting.append(replace(blank, reason="the first layer is not complete", kind="no_reply"))
            elif (wanted := review_request(request, reviews, sitting.name)) is None:
                settled.append(blank)
            else:
                asked.append(wanted)
        return JudgingPlan(requests=tuple(asked), settled=tuple(settled)), [*waiting]

    def _judged(self, number: int, job: JudgingJob, plan: JudgingPlan) -> Judged:
        judge = self.config.judges[job.entry]
        panel = judge.board
        records = {(name, layer): self._records[number, name, layer] for name, _, layer in seats(judge)}
        costs = tuple(
            cost(
                member,
                [record for record in records[name, layer] if record.judge != NOBODY],
                model=job.candidate.model,
                benchmark=job.benchmark.name,
                layer=layer,
                asked=self._asked.get((number, name, layer), 0),
            )
            for name, member, layer in seats(judge)
            if member.is_model
        )
        if panel is None:
            said = records["", 1]
            return Judged(job=job, verdicts=collapse(said), said=said, members={}, costs=costs)
        one = {seat: {record.place: record for record in collapse(found)} for seat, found in records.items()}
        layers = [{name: one[name, layer] for name in panel.members} for layer in range(1, panel.layers + 1)]
        verdicts: Records = [*plan.settled]
        for request in plan.requests:
            looks = [{name: found[request.place] for name, found in layer.items()} for layer in layers]
            verdicts.append(panel.aggregate(request, looks))
        row = {question.id: place for place, question in enumerate(job.benchmark.questions)}
        verdicts.sort(key=lambda record: (row[record.question_id], *record.place[1:]))
        asked = {request.place for request in plan.requests}
        own = {name: [r for r in layers[0][name].values() if r.place in asked] for name in panel.members}
        said = [*verdicts, *(r for found in records.values() for r in found if r.judge != NOBODY)]
        return Judged(job=job, verdicts=verdicts, said=said, members=own, costs=costs)
