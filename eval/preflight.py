"""What would stop an evaluation, looked for before it starts a server or asks anybody.

    problems(candidates, config, wanted_to_evaluate(candidates, config), ask=True)

A judge or a server says itself what it needs (`obstacles`); here is which of them are asked anything at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from eval.answer.candidate import Candidate, digest
from eval.answer.work import written_bytes
from eval.benchmarks import JudgedBenchmark, LoadedBenchmark
from eval.config import EvalConfig
from eval.ensemble_rows import EnsembleRows
from eval.judges import Member
from eval.judging.head_to_head import pair_up
from eval.judging.judgement import Judgement, JudgingJob, by_judge, judgements
from eval.judging.judging import Judging
from eval.pipeline import Ask, run_stages
from eval.serve import Serve
from eval.serve.memory import served_bytes, size_of
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.configure import Refusal, plain
from fusion.runtime.preflight import disk_problems, machine_memory, memory_problems, refusals, refuse
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Advance, Stage, unseen


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the store does not have: the judges who have not said everything, and whether a model must be served."""

    judges: Sequence[Member]
    served: bool


def problems(candidates: Sequence[Candidate], config: EvalConfig, wanted: Wanted, *, ask: bool) -> list[str]:
    """Benchmarks whose files are not there or not valid; a server that cannot start, or not with these models; judges
    without a key; too little room for the answers; and with `ask` those who refuse when they are asked once."""
    found: list[str] = []
    loaded: list[LoadedBenchmark] = []
    for benchmark in config.judged.values():
        try:
            loaded.append(_load(benchmark, config.data))
        except Refusal as refusal:
            found.append(str(refusal))
    if wanted.served:
        found += [*server_problems([config.serve], ask=ask), *refusals(lambda: _fit(candidates, config.serve))]
        texts = sum(map(written_bytes, loaded)) * len(candidates)
        found += disk_problems({config.artifacts: texts})
    return [*found, *judge_problems(wanted.judges, config, ask=ask)]


def server_problems(servers: Iterable[Serve], *, ask: bool) -> list[str]:
    """What keeps them from serving; `ask`: whether those that run already and know of nothing are asked once."""
    return [said for serve in servers for said in _known_or_said(serve.obstacles(), serve.asked_once, ask)]


def _fit(candidates: Sequence[Candidate], serve: Serve) -> None:
    """Raises Refusal for a model that the machine's memory does not hold, or whose files are not a model's."""
    held = {f"serving {candidate.model}": served_bytes(size_of(candidate.path), serve) for candidate in candidates}
    refuse(memory_problems(held, machine_memory()))


def judge_problems(judges: Sequence[Member], config: EvalConfig, *, ask: bool) -> list[str]:
    """What keeps them from judging; `ask`: whether those that know of nothing are asked once."""
    return [said for judge in judges for said in _known_or_said(judge.obstacles(config.serve), judge.asked_once, ask)]


def _known_or_said(known: Sequence[str], asked_once: Callable[[], str | None], ask: bool) -> list[str]:
    """What is known to be in the way; else, with `ask`, what is said when it is asked."""
    refused = asked_once() if ask and not known else None
    return [*known, *([refused] if refused else [])]


def _load(benchmark: JudgedBenchmark, data: Path) -> LoadedBenchmark:
    return benchmark.load(benchmark.files(data))


def seated(config: EvalConfig) -> list[Member]:
    """Every judge of an evaluation, the members of panels for their panel."""
    every = [
        member
        for judge in config.judges.values()
        for member in ([judge] if judge.board is None else judge.board.members.values())
    ]
    return [*{digest(plain(judge)): judge for judge in every}.values()]


def wanting(judged: Sequence[Judgement]) -> list[Member]:
    """The judges who have not said everything yet."""
    return [judge for judge, own in by_judge(judged) if not all(one.finished for one in own)]


def wanted_to_judge(jobs: Sequence[JudgingJob], config: EvalConfig) -> list[Member]:
    """The judges of answers that are there whose verdicts are not all in the store."""
    store = Store(root=config.artifacts, reuse=config.reuse)
    try:
        layers = [layer for job in pair_up(jobs) for layer in judgements(job, config, store, store.directory_key)]
    except Refusal:  # said again, and better, by the judge or the benchmark itself
        return seated(config)
    return wanting([one for layer in layers for one in layer.values()])


def wanted_to_evaluate(candidates: Sequence[Candidate], config: EvalConfig) -> Wanted:
    """What of checkpoints' answers and verdicts is not in the store; all judges, where an answer is missing there."""
    store, seen = LookingStore(root=config.artifacts, reuse=config.reuse), list[Judgement]()
    progress = RunProgress(Console(quiet=True))

    served = True

    def look(ask: Ask) -> None:
        nonlocal served
        ask(candidates, config.serve, _no_server)
        served = False

    try:
        loaded = {entry: _load(one, config.data) for entry, one in config.judged.items()}
        judging = Judging(config, progress, store, seen.extend)
        run_stages(candidates, loaded, EnsembleRows(candidates, config, progress), judging, look)
    except (NotThere, Refusal):  # what is refused is refused again, by its own part
        pass
    return Wanted(judges=wanting(seen) if seen else seated(config), served=served)


class NotThere(Exception):
    """A stage whose artifact is not in the store."""


class LookingStore(Store):
    """A store in which everything is found, unread, or nothing is made: `produce` raises NotThere."""

    def produce(self, stage: Stage, advance: Advance = unseen) -> Artifact:
        key = self.key(stage)
        manifest = self.manifest(stage.name, key)
        if manifest is None:
            raise NotThere(f"{stage.name} of {stage.what}")
        return Artifact(stage=stage.name, key=key, path=self.path(stage.name, key), manifest=manifest, reused=True)


def _no_server() -> NoReturn:
    raise AssertionError("nothing is served while it is looked what there is")
