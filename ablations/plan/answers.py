"""The evaluation's part of a plan: which answers, measurements and verdicts a cell asks for, and what judging takes.

Answers are planned by `eval.answer.stages` itself and verdicts under the keys of `eval.judging.asking`, both with a
store that computes nothing.  Verdicts on answers that do not exist yet are planned on placeholders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from ablations.plan.questions import answer_tokens, placeholders
from ablations.plan.store import PlanningStore
from ablations.plan.work import CHARACTERS_PER_TOKEN
from eval.answer.candidate import Candidate, digest
from eval.answer.stages import Stages
from eval.benchmarks import LoadedBenchmark
from eval.config import EvalConfig
from eval.ensemble_rows import EnsembleRows
from eval.judging.asking import JudgingJob, Keeping, Sitting, by_judge, sittings_of
from eval.judging.cost import Estimate
from eval.judging.estimate import expected
from eval.judging.head_to_head import pair_up
from eval.records import Answer
from eval.serve import Serve
from fusion.runtime.configure import Refusal, plain
from fusion.runtime.precision import ITEM_BYTES
from fusion.runtime.progress import RunProgress
from fusion.runtime.work import Size, Work


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What a judge model would be asked for on one benchmark; `money` is None where the judge has no price."""

    judge: str
    benchmark: str
    estimate: Estimate
    money: float | None


@dataclass(kw_only=True)
class Demand:
    """What the cells of a plan ask of models and judges.

    `planned`: whose answers to what, judged by whom, were planned in an earlier cell; `loaded`: benchmarks by settings
    and file; `unknown`: entries whose files are not there, and why.
    """

    charges: list[Charge] = field(default_factory=list)
    planned: set[str] = field(default_factory=set)
    loaded: dict[str, LoadedBenchmark] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


def plan_evaluation(
    candidates: Sequence[Candidate],
    config: EvalConfig,
    progress: RunProgress,
    questions: Mapping[str, Path],
    *,
    store: PlanningStore,
    asked: Demand,
) -> None:
    """Enter the stages of one cell's evaluation into the store's book, and its judges' charges into `asked`.

    The order is that of `eval.pipeline.evaluate`.  Raises Refusal for settings that an evaluation would refuse.
    """
    run = Stages(config, progress, _no_server)
    run.store = store
    ensembles = EnsembleRows(candidates, config, progress)
    loaded = {entry: _loaded(entry, config, questions.get(entry), asked) for entry in config.judged}
    wanted = {
        entry: [_settings(entry, config, questions.get(entry)), plain(config.serve), plain(config.judges[entry])]
        for entry in loaded
    }
    answered: dict[tuple[str, str], list[Answer]] = {}
    jobs: list[JudgingJob] = []
    coming: dict[int, str] = {}  # by the job's number: whose answers are still to come
    for candidate in candidates:
        for entry, benchmark in loaded.items():
            whose = digest([candidate.model, candidate.weights, wanted[entry]])
            if whose in asked.planned and not _needed_again(candidate, benchmark, ensembles):
                continue
            asked.planned.add(whose)
            answers = _answers(run, store, candidate, entry, benchmark)
            answered[candidate.model, entry] = answers
            if store.latest().found is None and benchmark.head_to_head is None:
                coming[len(jobs)] = whose
            with contextlib.suppress(FileNotFoundError):  # there are no perplexities to read yet
                ensembles.measure(run, candidate, entry, benchmark, answers)
            _weigh_perplexity(store, candidate, benchmark)
            jobs.append(JudgingJob(candidate=candidate, entry=entry, benchmark=benchmark, answers=answers))
        for entry, harness in config.measured.items():
            run.measured(candidate, entry, harness)
    for name, rule in ensembles.writing.items():
        for entry, benchmark in loaded.items():
            job = ensembles.written(run, name, entry, benchmark, answered)
            stage = store.latest()
            members = ensembles.members if rule.together else [job.candidate]
            stage.work = _answering(store, members, benchmark, cached=not rule.together)
            said = job.answers or placeholders(benchmark, model=job.candidate.model, key=stage.key)
            jobs.append(replace(job, answers=said))
    _plan_verdicts(jobs, coming, config, store, asked)


def _loaded(entry: str, config: EvalConfig, made: Path | None, asked: Demand) -> LoadedBenchmark:
    known = digest(_settings(entry, config, made))
    if known not in asked.loaded:
        benchmark = config.judged[entry]
        try:
            asked.loaded[known] = benchmark.load(benchmark.files(config.data, questions=made))
        except Refusal as refusal:
            found = benchmark.stand_in()
            if found is None:
                raise
            asked.unknown[entry] = str(refusal)
            asked.loaded[known] = found
    return asked.loaded[known]


def _settings(entry: str, config: EvalConfig, made: Path | None) -> list[Any]:
    return [entry, plain(config.benchmarks[entry]), str(made), str(config.data)]


def _needed_again(candidate: Candidate, benchmark: LoadedBenchmark, ensembles: EnsembleRows) -> bool:
    """Whether this cell's ensembles, or other models compared with it, need answers that were planned before."""
    return benchmark.head_to_head is not None or bool(ensembles.config.ensembles and candidate in ensembles.members)


def _answers(
    run: Stages, store: PlanningStore, candidate: Candidate, entry: str, benchmark: LoadedBenchmark
) -> list[Answer]:
    answers = run.answers(candidate, entry, benchmark)
    stage = store.latest()
    work = _answering(store, [candidate], benchmark, cached=True)
    stage.work = replace(work, holds=_held(store.book.sizes[candidate.weights], run.serve))
    return answers or placeholders(benchmark, model=candidate.model, key=stage.key)


def _held(size: Size, serve: Serve) -> float:
    """Bytes in memory while it is served: those on disk, unless the server takes the weights to another type."""
    types = {each: dtype for dtype, each in reversed([*ITEM_BYTES.items()])}
    served = serve.precision(types[round(size.bytes_each)])
    return size.bytes if served is None else size.parameters * ITEM_BYTES[served]


def _answering(store: PlanningStore, members: Sequence[Candidate], benchmark: LoadedBenchmark, *, cached: bool) -> Work:
    """Generating the answers to a benchmark; without a cache every token is a forward pass over all before it."""
    tokens = answer_tokens(benchmark, benchmark.questions)
    turns = sum(len(question.turns) for question in benchmark.questions)
    context = 1.0 if cached else _prompt_tokens(benchmark) / len(benchmark.questions) + tokens / turns / 2
    sizes = [store.book.sizes[member.weights] for member in members]
    return Work(
        kind="answers" if cached else "represent",
        units=sum(2 * size.active for size in sizes) * tokens * context,
        items=turns,
        holds=sum(size.bytes for size in sizes),
    )


def _weigh_perplexity(store: PlanningStore, candidate: Candidate, benchmark: LoadedBenchmark) -> None:
    stage = store.latest()
    if stage.stage == "perplexity":
        tokens = answer_tokens(benchmark, benchmark.questions) + _prompt_tokens(benchmark)
        size = store.book.sizes[candidate.weights]
        items = len(benchmark.questions)
        stage.work = Work(kind="represent", units=2 * size.active * tokens, items=items, holds=size.bytes)


def _prompt_tokens(benchmark: LoadedBenchmark) -> float:
    return sum(len(turn) for question in benchmark.questions for turn in question.turns) / CHARACTERS_PER_TOKEN


def _plan_verdicts(
    jobs: Sequence[JudgingJob], coming: Mapping[int, str], config: EvalConfig, store: PlanningStore, asked: Demand
) -> None:
    keeping = Keeping(config)
    paired = pair_up(jobs)
    plans = [job.benchmark.plan(job.answers) for job in paired]
    new = []
    for sitting in sittings_of(paired, plans, config):
        whose = coming.get(sitting.number)
        entered = [_enter(sitting, repeat, keeping, store, whose) for repeat in range(sitting.repeats)]
        if any(entered):
            new.append(sitting)
    for judge, held in by_judge(new):
        if judge.is_model:
            for entry in dict.fromkeys(sitting.job.entry for sitting in held):
                found = expected([sitting for sitting in held if sitting.job.entry == entry], keeping)
                price = judge.price
                money = None if price is None else price.of(found.prompt_tokens, found.completion_tokens)
                asked.charges.append(Charge(judge=judge.label, benchmark=entry, estimate=found, money=money))


def _enter(sitting: Sitting, repeat: int, keeping: Keeping, store: PlanningStore, whose: str | None) -> bool:
    """Whether the verdicts are new to the book.  While the answers do not exist, the key is derived from whose they
    will be.
    """
    if whose is None:
        key = store.key(keeping.recipe(sitting, repeat))
    else:
        key = digest([whose, sitting.name, sitting.layer, repeat])
    what = " · ".join(filter(None, (sitting.job.candidate.model, sitting.job.entry, sitting.name)))
    replies = len(sitting.plan.requests)
    work = Work(kind="verdicts", units=replies, items=replies)
    _, new = store.book.enter("verdicts", key, found=store.manifest("verdicts", key), work=work, what=what)
    return new


def _no_server() -> NoReturn:
    raise AssertionError("a plan starts no server")
