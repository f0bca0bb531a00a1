"""One judge's verdicts on one model's answers: their key, those that are on disk, and those that it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from eval.answer.candidate import Candidate, digest
from eval.benchmarks import LoadedBenchmark
from eval.benchmarks.protocol import JudgingPlan
from eval.benchmarks.slots import NOBODY
from eval.config import EvalConfig
from eval.judges import Judge, Member
from eval.judges.forms import FORMS
from eval.judging.collect import collect_verdicts, needs_asking
from eval.judging.kept_reviews import KeptReviews
from eval.judging.review import review_request
from eval.records import Answer, Place, Unscored, UnscoredKind, Verdict, read_verdicts, write_records
from fusion.runtime.artifacts import Store
from fusion.runtime.configure import plain
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Advance, Stage, StageRecipe, Unfinished
from fusion.runtime.work import Known, Work

_JOURNAL = ".verdicts.jsonl"
Records = list[Verdict | Unscored]


@dataclass(frozen=True, kw_only=True)
class JudgingJob:
    """One model's answers to one benchmark, to be judged by the judge of the entry."""

    candidate: Candidate
    entry: str
    benchmark: LoadedBenchmark
    answers: Sequence[Answer]


@dataclass(kw_only=True, eq=False)
class Judgement:
    """One judge on the answers of one job, alone or as the member of a panel.

    What can change a verdict is in its key; prices and timeouts are not.  A member of a panel has the key that the same
    judge has alone.
    """

    job: JudgingJob
    plan: JudgingPlan
    judge: Member
    # Its name in the panel; empty outside one.
    name: str
    # By name, what the members of the panel said before any read the others, in the second layer; empty in the first.
    first: Mapping[str, Judgement]
    config: EvalConfig
    store: Store
    # The digest of a judge's own weights.
    weights_of: Callable[[Path], str]
    # What it said, one repetition after the other, and how many of its replies this run asked for.
    records: Records = field(default_factory=list)
    asked: int = 0
    _recipes: dict[int, StageRecipe] = field(default_factory=dict)

    @property
    def layer(self) -> int:
        return 2 if self.first else 1

    @property
    def what(self) -> str:
        """Whose verdicts on what, for people."""
        return " · ".join(filter(None, (self.job.candidate.model, self.job.entry, self.name)))

    def asking(self, repeat: int) -> JudgingPlan:
        """The plan of one repetition; what needs no judge is settled in the first."""
        if repeat == 0:
            return self.plan
        again = tuple(replace(request, repeat=repeat) for request in self.plan.requests)
        return JudgingPlan(requests=again, settled=())

    def key(self, repeat: int) -> str:
        """The store's key of one repetition."""
        return self.store.key(self.recipe(repeat))

    def recipe(self, repeat: int) -> StageRecipe:
        """What the store makes the key of: judge, everything it is shown, how a reply is read."""
        if repeat in self._recipes:
            return self._recipes[repeat]
        shown, waiting = self.shown(repeat)
        made = self._recipe({"plan": digest(plain(shown))})
        if waiting:  # what these will be shown is not known: a key that no finished verdicts have
            return replace(made, inputs={**made.inputs, **{f"first-{n}": one.key(0) for n, one in self.first.items()}})
        return self._recipes.setdefault(repeat, made)

    def _recipe(self, said: Mapping[str, str]) -> StageRecipe:
        """The judge, how its replies are read, and what was `said` to it."""
        benchmark = self.job.benchmark
        judge, inputs = self.judge.identity(self.weights_of, self.config.serve)
        modules = [*self.judge.modules(type(benchmark).__module__, benchmark.reading, self.config.serve)]
        modules += sorted({type(FORMS[request.form]).__module__ for request in self.plan.requests})
        return StageRecipe(
            name="verdicts",
            config={"judge": judge, **said, "benchmark": [benchmark.name, benchmark.settings.annotator]},
            inputs=inputs,
            modules=tuple(modules),
        )

    @property
    def finished(self) -> bool:
        """Whether the store has every repetition, so that nobody is asked."""
        return all(self.store.manifest("verdicts", self.key(repeat)) for repeat in range(self.judge.repeats))

    def found(self, repeat: int) -> Records:
        """The records of a finished or an unfinished repetition."""
        key = self.key(repeat)
        finished = self.store.path("verdicts", key) / "verdicts.jsonl"
        if finished.exists():
            return read_verdicts(finished)
        requests = self.shown(repeat)[0].requests if self.first else ()
        kept = [record for request in requests for record in self.reviews.of(request)]
        return [*kept, *read_verdicts(self.store.unfinished("verdicts", key) / _JOURNAL)]

    @property
    def reviews(self) -> KeptReviews:
        """What this judge, so read, has said at second looks, whoever it was about."""
        return KeptReviews(self.store.path("verdicts", f".reviews-{self.store.key(self._recipe({}))}"))

    def ask(self, asker: Callable[[], Judge], progress: RunProgress) -> None:
        """Fill `records`: what is there, and the replies of `asker` to the rest."""
        found = [record for repeat in range(self.judge.repeats) for record in self._verdicts(repeat, asker, progress)]
        # Equal weights, or the same file, under another name share their verdicts.
        label = self.judge.label + (" (after review)" if self.first else "")
        self.records = [r if r.judge == NOBODY else replace(r, judge=label) for r in found]

    def _verdicts(self, repeat: int, asker: Callable[[], Judge], progress: RunProgress) -> Records:
        try:
            artifact = progress.produce(self.store, self.stage(repeat, asker))
        except Unfinished as unfinished:
            progress.note(f"{self.what}: {unfinished} verdicts are missing; repeat the command to ask again")
            return cast(Records, unfinished.records)
        missing = [self._unscored(request.place, "not asked yet") for request in self.asking(repeat).requests]
        return artifact.read(lambda path: read_verdicts(path / "verdicts.jsonl"), stand_in=lambda key: [*missing])

    def stage(self, repeat: int, asker: Callable[[], Judge]) -> Stage:
        """One repetition: one record per request of the plan, each on disk before the next is asked."""

        def build(out: Path, advance: Advance) -> Mapping[str, Any]:
            plan, waiting = self.shown(repeat)
            requests = {request.place: request for request in plan.requests}
            reviews = self.reviews
            done = 0

            def counted(record: Verdict | Unscored) -> None:
                nonlocal done
                done += 1
                self.asked += 1
                if self.first:
                    reviews.keep(requests[record.place], record)
                advance(done, len(requests))

            if self.first:
                reviews.fill(out / _JOURNAL, plan.requests)

            found = collect_verdicts(
                benchmark=self.job.benchmark,
                plan=plan,
                judge=asker(),
                journal=out / _JOURNAL,
                readings=self.judge.readings,
                on_verdict=counted,
            )
            missing = sum(map(needs_asking, found)) + len(waiting)
            if missing:
                raise Unfinished([*found, *waiting], missing)
            write_records(out / "verdicts.jsonl", found)
            return {"verdicts": len(found), "unscored": sum(isinstance(v, Unscored) for v in found)}

        def work(known: Known) -> tuple[Work, None]:
            replies = len(self.plan.requests)
            return Work(kind="verdicts", units=replies, items=replies), None

        return Stage(
            **vars(self.recipe(repeat)),
            what=self.what,
            build=build,
            # What reads a reply, and of a judge served here what computes it.
            libraries=("alpaca-eval", "fschat", *self.judge.libraries(self.config.serve)),
            work=work,
        )

    def shown(self, repeat: int) -> tuple[JudgingPlan, Records]:
        """What one repetition is asked, and what must wait because a reply of the first layer is still missing."""
        plan = self.asking(repeat)
        if not self.first:
            return plan, []
        said = {name: {record.place: record for record in one.said_first()} for name, one in self.first.items()}
        asked, settled, waiting = [], [], []
        for request in plan.requests:
            reviews = {name: found.get(request.place.first_time) for name, found in said.items()}
            complete = {name: one for name, one in reviews.items() if one is not None and not needs_asking(one)}
            if len(complete) < len(reviews):
                waiting.append(self._unscored(request.place, "the first layer is not complete"))
            elif (wanted := review_request(request, complete, self.name)) is None:
                settled.append(self._unscored(request.place, "no review of the first layer to read", "unreadable"))
            else:
                asked.append(wanted)
        return JudgingPlan(requests=tuple(asked), settled=tuple(settled)), [*waiting]

    def said_first(self) -> Records:
        """What it said when it was asked for the first time, as far as that is known yet."""
        return self.records or self.found(0)

    def _unscored(self, place: Place, reason: str, kind: UnscoredKind = "no_reply") -> Unscored:
        return Unscored(**vars(place), reason=reason, judge=self.judge.label, kind=kind)


def judgements(
    job: JudgingJob, config: EvalConfig, store: Store, weights_of: Callable[[Path], str]
) -> list[dict[str, Judgement]]:
    """Every judge on one model's answers, layer by layer, by name; outside a panel one that has none."""
    judge = config.judges[job.entry]
    plan, panel = job.benchmark.plan(job.answers), judge.board
    members = {"": cast(Member, judge)} if panel is None else panel.members
    layers: list[dict[str, Judgement]] = []
    for _ in range(1 if panel is None else panel.layers):
        one = {
            name: Judgement(
                job=job,
                plan=plan,
                judge=member,
                name=name,
                first=layers[0] if layers else {},
                config=config,
                store=store,
                weights_of=weights_of,
            )
            for name, member in members.items()
        }
        layers.append(one)
    return layers


def by_judge(judgements: Sequence[Judgement]) -> Iterator[tuple[Member, list[Judgement]]]:
    """The judgements of each judge together, in the order of the first."""
    found: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        found.setdefault(digest(plain(judgement.judge)), []).append(judgement)
    yield from ((same[0].judge, same) for same in found.values())
