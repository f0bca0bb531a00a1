"""READ SECOND.  From checkpoints to scored models: serve, answer, judge, score.

    checkpoint --serve--> endpoint --answer--> Answers --judge--> Verdicts | Unscored --score--> metrics and items

Answers are keyed by the weights that gave them and by what was asked; verdicts by those answers and by what the judge
is shown.  Both are artifacts: a run that finds them starts no server and asks no judge.  A server is started at the
first question that needs one, and the next checkpoint of the same architecture is loaded into it, also by the next
evaluation that is given the same `Servers`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eval.answer.candidate import Candidate
from eval.answer.stages import Stages, scored_model
from eval.benchmarks import LoadedBenchmark
from eval.config import EvalConfig
from eval.ensemble_rows import EnsembleRows
from eval.judging.head_to_head import both_sides, pair_up
from eval.judging.judgement import JudgingJob
from eval.judging.judging import Judged, Judging
from eval.judging.recorded_rows import recorded_rows
from eval.judging.scored_by import scored_by
from eval.records import Answer, ItemScore
from eval.scored import ScoredModel
from eval.serve import Serve
from eval.serve.lanes import plan
from eval.serve.machine import visible_gpus
from eval.serve.standing import Servers, StartedServer
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import file_digest
from fusion.runtime.progress import RunProgress
from fusion.runtime.reading import read_object

# What an evaluation does while a server is there for it: some candidates, how they are served, and that server.
Ask = Callable[[Sequence[Candidate], Serve, StartedServer], None]


def evaluate(
    candidates: Sequence[Candidate],
    config: EvalConfig,
    progress: RunProgress,
    questions: Mapping[str, Path],
    *,
    servers: Servers | None = None,
) -> list[ScoredModel]:
    """Every candidate on every benchmark, in the candidates' order.

    `questions` gives the question file of the entries whose questions the run made itself; the others name theirs below
    `paths.data`.  With `servers`, running servers are reused and left running; without, the evaluation stops those it
    started.  Raises Refusal for missing files, a server that cannot be started, a judge that is not available.
    """
    if servers is None:
        with Servers() as own:
            return evaluate(candidates, config, progress, questions, servers=own)
    files = {
        entry: benchmark.files(config.data, questions=questions.get(entry))
        for entry, benchmark in config.judged.items()
    }
    loaded = {entry: benchmark.load(files[entry]) for entry, benchmark in config.judged.items()}
    question_files = {entry: file_digest(own.questions) for entry, own in files.items()}

    def served(ask: Ask) -> None:
        side_by_side = plan(by_architecture(candidates), config.serve, lanes=config.lanes, gpus=visible_gpus())
        servers.take(
            [(architecture(piece[0].path), piece) for piece in side_by_side.pieces],
            side_by_side.settings,
            ask,
            logs=config.artifacts / "logs",
            say=progress.note,
        )
        servers.make_room()  # for ensembles' models, and for judges that are served

    ensembles = EnsembleRows(candidates, config, progress)
    judging = Judging(config, progress)
    judged, measured = run_stages(candidates, loaded, ensembles, judging, served, question_files)
    found = iter(_scored(judged, judging, ensembles))
    scored: list[ScoredModel] = []
    for candidate in candidates:
        scored += itertools.islice(found, len(loaded))
        for entry, harness in config.measured.items():
            # Two entries may ask one task in two ways, so their rows bear the entry's name.
            items = [replace(item, benchmark=entry) for item in measured[candidate.model, entry]]
            metrics = [replace(row, benchmark=entry) for row in harness.metrics(items, config.uncertainty)]
            scored.append(scored_model(candidate, entry, metrics, items))
    return [*scored, *ensembles.in_order(found)]


def run_stages(
    candidates: Sequence[Candidate],
    loaded: Mapping[str, LoadedBenchmark],
    ensembles: EnsembleRows,
    judging: Judging,
    served: Callable[[Ask], None],
    question_files: Mapping[str, str] | None = None,
) -> tuple[list[Judged], dict[tuple[str, str], list[ItemScore]]]:
    """Every stage of an evaluation, in order: the judged answers of candidates and ensembles, and what was measured.

    `served` calls what it is given with every candidate once, and a server for it; `question_files` as in `Stages`.  A
    planner gives a `judging` whose store computes nothing, and no server.
    """
    config, progress, store = judging.config, judging.progress, judging.store
    answered: dict[tuple[str, str], list[Answer]] = {}
    measured: dict[tuple[str, str], list[ItemScore]] = {}

    def ask(piece: Sequence[Candidate], settings: Serve, started: StartedServer) -> None:
        run = Stages(
            config=config,
            progress=progress,
            store=store,
            server=started,
            serve=settings,
            question_files=question_files or {},
        )
        for candidate in piece:
            for entry, benchmark in loaded.items():
                answered[candidate.model, entry] = run.answers(candidate, entry, benchmark)
                ensembles.measure(run, candidate, entry, benchmark, answered[candidate.model, entry])
            for entry, harness in config.measured.items():
                measured[candidate.model, entry] = run.measured(candidate, entry, harness)

    served(ask)
    jobs = [
        JudgingJob(candidate=candidate, entry=entry, benchmark=benchmark, answers=answered[candidate.model, entry])
        for candidate in candidates
        for entry, benchmark in loaded.items()
    ]
    jobs += ensembles.jobs(loaded, answered, store, question_files or {})
    return judging.all(pair_up(jobs)), measured


def judge_answers(
    path: Path, config: EvalConfig, progress: RunProgress, *, label: str | None = None
) -> list[ScoredModel]:
    """Judge and score answers that exist already, in the benchmark package's own file format.

    Raises Refusal as `answered` does.
    """
    jobs = answered(path, config, label=label)
    ensembles = EnsembleRows([job.candidate for job in jobs], config, progress, served=False)
    return judge(jobs, config, progress, ensembles)


def answered(path: Path, config: EvalConfig, *, label: str | None = None) -> list[JudgingJob]:
    """The answers of each model in a file, to be judged; `label` is the one model's row.

    Raises Refusal for a file that is not in the benchmark package's format, and when more than one benchmark is chosen.
    """
    if len(config.benchmarks) != 1:
        raise Refusal(f"answers={path}: expected one benchmark, got {', '.join(config.benchmarks)}: set benchmark=NAME")
    if not config.judged:
        (name,) = config.benchmarks
        raise Refusal(f"answers={path}: {name} asks by itself; give checkpoint=DIR instead")
    ((entry, benchmark),) = config.judged.items()
    loaded = benchmark.load(benchmark.files(config.data))
    by_model: dict[str, list[Answer]] = {}
    for answer in loaded.read_answers(path):
        by_model.setdefault(label or answer.model, []).append(answer)
    jobs = []
    for model, answers in by_model.items():
        candidate = Candidate(model=model, group="Models", path=path, weights="")
        jobs.append(JudgingJob(candidate=candidate, entry=entry, benchmark=loaded, answers=answers))
    return jobs


def judge(
    jobs: Sequence[JudgingJob], config: EvalConfig, progress: RunProgress, ensembles: EnsembleRows | None = None
) -> list[ScoredModel]:
    """Verdicts on every job's answers, and the scores they give, in the jobs' order; behind them the scores of what the
    ensembles select from them."""
    judging = Judging(config, progress)
    return _scored(judging.all(pair_up(jobs)), judging, ensembles)


def _scored(found: Sequence[Judged], judging: Judging, ensembles: EnsembleRows | None) -> list[ScoredModel]:
    config, judged = judging.config, both_sides(found)
    selected = ensembles.selected(judged) if ensembles else []
    return [
        scored_by(
            one,
            judging.notes,
            config.uncertainty,
            beside=recorded_rows(one, config.judges[one.job.entry], config.uncertainty),
        )
        for one in [*judged, *selected]
    ]


def by_architecture(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates that one server can serve in turn."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(architecture(candidate.path), []).append(candidate)
    return list(groups.values())


def architecture(checkpoint: Path) -> str:
    """The checkpoint's config.json without what names or dates it; equal text means the same network."""
    settings = read_object(checkpoint / "config.json", expected="that of a Hugging Face checkpoint directory")
    return json.dumps(
        {k: v for k, v in settings.items() if k not in ("_name_or_path", "transformers_version")}, sort_keys=True
    )
