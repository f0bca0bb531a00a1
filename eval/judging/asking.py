"""One judge's verdicts on one model's answers: their cache key, and those already on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from eval.answer.candidate import Candidate, digest
from eval.benchmarks import LoadedBenchmark
from eval.benchmarks.protocol import JudgingPlan
from eval.config import EvalConfig
from eval.judges import Member, Panel
from eval.judges.forms import FORMS
from eval.records import Answer, Unscored, Verdict, read_verdicts
from fusion.runtime.artifacts import Store
from fusion.runtime.configure import plain
from fusion.runtime.digests import directory_key
from fusion.runtime.stage import StageRecipe

JOURNAL = ".verdicts.jsonl"


@dataclass(frozen=True, kw_only=True)
class JudgingJob:
    """One model's answers to one benchmark, to be judged by the judge of the entry."""

    candidate: Candidate
    entry: str
    benchmark: LoadedBenchmark
    answers: Sequence[Answer]


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One judge on the job of that `number`; `name` is the panel member's, empty for a judge outside a panel."""

    number: int
    job: JudgingJob
    plan: JudgingPlan
    name: str
    judge: Member
    layer: int

    @property
    def seat(self) -> tuple[int, str, int]:
        return self.number, self.name, self.layer

    @property
    def repeats(self) -> int:
        """How often each request is asked."""
        return self.judge.repeats

    @property
    def readings(self) -> int:
        """How often a request is asked whose reply cannot be read."""
        return self.judge.readings

    def asking(self, repeat: int) -> JudgingPlan:
        """The plan of one repetition; what needs no judge is settled in the first."""
        requests = tuple(replace(request, repeat=repeat) for request in self.plan.requests)
        return JudgingPlan(requests=requests, settled=() if repeat else self.plan.settled)


class Keeping:
    """Where verdicts are kept, and under which key: what can change a verdict is in it; prices and timeouts are not."""

    def __init__(self, config: EvalConfig) -> None:
        self.config = config
        self.store = Store(root=config.artifacts, reuse=config.reuse)
        self._weights: dict[Path, str] = {}
        self._plans: dict[tuple[int, int], str] = {}  # digests, by job and repeat

    def recipe(self, sitting: Sitting, repeat: int) -> StageRecipe:
        """What the store makes the key of: judge, plan, how a reply is read, and for a second layer the first.

        A member of a panel has the key that the same judge has alone.
        """
        job = sitting.job
        judge, inputs = sitting.judge.identity(self.weights, self.config.serve)
        config: dict[str, Any] = {
            "judge": judge,
            "plan": self._plan(sitting, repeat),
            "benchmark": [job.benchmark.name, job.benchmark.settings.annotator],
        }
        own = type(job.benchmark).__module__
        modules = [*sitting.judge.modules(own, job.benchmark.reading, self.config.serve)]
        modules += sorted({type(FORMS[request.form]).__module__ for request in sitting.plan.requests})
        panel = self.config.judges[job.entry].board
        if sitting.layer == 2 and panel is not None:
            config["reviewer"] = sitting.name
            modules.append("eval.judging.review")
            for name, member in panel.members.items():
                first = self.recipe(replace(sitting, name=name, judge=member, layer=1), 0)
                inputs[f"first-{name}"] = self.store.key(first)
        return StageRecipe(name="verdicts", config=config, inputs=inputs, modules=tuple(modules))

    def libraries(self, sitting: Sitting) -> tuple[str, ...]:
        """The packages that read a reply, and of a served judge those that compute it."""
        return ("alpaca-eval", "fschat", *sitting.judge.libraries(self.config.serve))

    def found(self, sitting: Sitting, repeat: int) -> list[Verdict | Unscored]:
        """The records of a finished or an unfinished repetition."""
        key = self.store.key(self.recipe(sitting, repeat))
        finished = self.store.path("verdicts", key) / "verdicts.jsonl"
        return read_verdicts(finished if finished.exists() else self.store.unfinished("verdicts", key) / JOURNAL)

    def weights(self, directory: Path) -> str:
        """The digest of a judge's files."""
        if directory not in self._weights:
            self._weights[directory] = directory_key(directory, self.config.artifacts / "digests.json")
        return self._weights[directory]

    def _plan(self, sitting: Sitting, repeat: int) -> str:
        place = sitting.number, repeat
        if place not in self._plans:
            self._plans[place] = digest(plain(sitting.asking(repeat)))
        return self._plans[place]


def seats(judge: Member | Panel) -> list[tuple[str, Member, int]]:
    """(name, judge, layer) of every judge: one, or a panel's members in each layer."""
    panel = judge.board
    if panel is None:
        return [("", cast(Member, judge), 1)]
    return [(name, member, layer) for layer in range(1, panel.layers + 1) for name, member in panel.members.items()]


def sittings_of(jobs: Sequence[JudgingJob], plans: Sequence[JudgingPlan], config: EvalConfig) -> list[Sitting]:
    """Every judge on every job."""
    return [
        Sitting(number=number, job=job, plan=plan, name=name, judge=judge, layer=layer)
        for number, (job, plan) in enumerate(zip(jobs, plans, strict=True))
        for name, judge, layer in seats(config.judges[job.entry])
    ]


def by_judge(sittings: Sequence[Sitting]) -> Iterator[tuple[Member, list[Sitting]]]:
    """The sittings of each judge together, in the order of the first."""
    held: dict[str, list[Sitting]] = {}
    for sitting in sittings:
        held.setdefault(digest(plain(sitting.judge)), []).append(sitting)
    yield from ((found[0].judge, found) for found in held.values())
