"""READ SECOND.  From checkpoints to scored models: serve, answer, judge, score.

    checkpoint --serve--> endpoint --answer--> Answers --judge--> Verdicts | Unscored --score--> metrics and items

Answers are keyed by the weights that gave them and by what was asked; verdicts by those answers and by what the judge
is shown.  Both are artifacts: a run that finds them starts no server and asks no judge.  A server is started at the
first question that needs one, and the next checkpoint of the same architecture is loaded into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.answers import collect_answers
from eval.benchmarks import BENCHMARKS, JudgedBenchmark, LMEvalHarness, LoadedBenchmark
from eval.judges import JUDGES, Judge
from eval.judges.collect import collect_verdicts, needs_asking
from eval.judges.recorded import Recorded
from eval.records import Answer, ItemScore, Unscored, Verdict, read_records, read_verdicts, write_records
from eval.scored import ScoredModel
from eval.scores.intervals import Bootstrap
from eval.scores.metric_row import MetricRow
from eval.serve import SERVERS, Serve, Server, engine, serving
from fusion.artifacts import Store, file_digest
from fusion.configure import Refusal, choose, plain, typed
from fusion.progress import RunProgress


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A checkpoint to evaluate: its row in the table, its directory, and the digest of its weights."""

    model: str
    group: str
    path: Path
    weights: str


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How checkpoints are served, what they are asked, and who judges each benchmark (by the entry's name)."""

    serve: Serve
    benchmarks: Mapping[str, JudgedBenchmark | LMEvalHarness]
    judges: Mapping[str, Judge]
    bootstrap: Bootstrap
    data: Path
    artifacts: Path
    lanes: int = 1


def eval_config(settings: Mapping[str, Any]) -> EvalConfig:
    """The typed config from what Hydra composed.  A benchmark's own `judge` comes before the experiment's.

    Raises Refusal for a name no table knows, an unknown or mistyped key, or a value out of range.
    """
    benchmarks, judges = {}, {}
    for entry, given in (settings.get("benchmark") or {}).items():
        if "name" not in given:
            continue  # an experiment's settings for an entry that was not chosen
        rest = {key: value for key, value in given.items() if key != "judge"}
        benchmarks[entry] = choose(BENCHMARKS, rest, at=f"benchmark.{entry}")
        own = given.get("judge")
        at = f"benchmark.{entry}.judge" if own else "judge"
        judges[entry] = choose(JUDGES, own or settings.get("judge") or {}, at=at)
    if not benchmarks:
        raise Refusal("no benchmark is chosen: expected benchmark=NAME or 'benchmark=[a,b]', entries of conf/benchmark")
    paths, report = settings["paths"], settings.get("report") or {}
    return EvalConfig(
        serve=choose(SERVERS, settings.get("serve") or {}, at="serve"),
        benchmarks=benchmarks,
        judges=judges,
        bootstrap=typed({key: report[key] for key in ("resamples", "seed") if key in report}, Bootstrap, at="report"),
        data=Path(paths["data"]).expanduser(),
        artifacts=Path(paths["artifacts"]).expanduser(),
        lanes=settings.get("lanes", 1),
    )


def evaluate(
    candidates: Sequence[Candidate], config: EvalConfig, progress: RunProgress, questions: Mapping[str, Path]
) -> list[ScoredModel]:
    """Every candidate on every benchmark, in the candidates' order.

    `questions` gives the question file of the entries whose questions the run made itself; the others name theirs
    below `paths.data`.  Raises Refusal for missing files, a server that cannot be had, a judge that cannot be asked.
    """
    loaded = {
        entry: benchmark.load(benchmark.files(config.data, questions=questions.get(entry)))
        for entry, benchmark in config.benchmarks.items()
        if not isinstance(benchmark, LMEvalHarness)
    }
    measures = {entry: found for entry, found in config.benchmarks.items() if isinstance(found, LMEvalHarness)}
    answered: dict[tuple[str, str], list[Answer]] = {}
    measured: dict[tuple[str, str], list[ItemScore]] = {}

    def ask(group: Sequence[Candidate]) -> None:
        with contextlib.ExitStack() as stack:
            run = _Evaluation(config, progress, stack)
            for candidate in group:
                for entry, benchmark in loaded.items():
                    answered[candidate.model, entry] = run.answers(candidate, entry, benchmark)
                for entry, harness in measures.items():
                    measured[candidate.model, entry] = run.measured(candidate, entry, harness)

    # A server belongs to the thread that started it, so each architecture is asked in one thread from start to end.
    with ThreadPoolExecutor(max_workers=config.lanes) as lanes:
        for group in [lanes.submit(ask, group) for group in by_architecture(candidates)]:
            group.result()
    run = _Evaluation(config, progress, contextlib.ExitStack())
    scored = []
    for candidate in candidates:
        for entry, benchmark in loaded.items():
            scored.append(run.scored(candidate, entry, benchmark, answered[candidate.model, entry]))
        for entry, harness in measures.items():
            items = measured[candidate.model, entry]
            metrics = harness.metrics(items, config.bootstrap)
            scored.append(_scored_model(candidate, harness.name, metrics, items))
    return scored


def judge_answers(
    path: Path, config: EvalConfig, progress: RunProgress, *, label: str | None = None
) -> list[ScoredModel]:
    """Judge and score answers that exist already, in the benchmark package's own file format.

    Raises Refusal for a file that is not in that format, and when more than one benchmark is chosen.
    """
    if len(config.benchmarks) != 1:
        raise Refusal(f"answers={path}: expected one benchmark, got {', '.join(config.benchmarks)}: set benchmark=NAME")
    ((entry, benchmark),) = config.benchmarks.items()
    if isinstance(benchmark, LMEvalHarness):
        raise Refusal(f"answers={path}: lm-eval asks by itself; give checkpoint=DIR instead")
    loaded = benchmark.load(benchmark.files(config.data))
    by_model: dict[str, list[Answer]] = {}
    for answer in loaded.read_answers(path):
        by_model.setdefault(label or answer.model, []).append(answer)
    scored = []
    with contextlib.ExitStack() as stack:
        run = _Evaluation(config, progress, stack)
        for model, answers in by_model.items():
            candidate = Candidate(model=model, group="Models", path=path, weights="")
            scored.append(run.scored(candidate, entry, loaded, answers))
    return scored


def by_architecture(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates that one server can serve in turn, the largest group first."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(architecture(candidate.path), []).append(candidate)
    return sorted(groups.values(), key=len, reverse=True)


def architecture(checkpoint: Path) -> str:
    """The checkpoint's config.json without what names or dates it; equal text means the same network."""
    path = checkpoint / "config.json"
    if not path.exists():
        raise Refusal(f"{checkpoint} has no config.json: expected a Hugging Face checkpoint directory")
    settings = json.loads(path.read_text())
    return json.dumps(
        {k: v for k, v in settings.items() if k not in ("_name_or_path", "transformers_version")}, sort_keys=True
    )


class _Evaluation:
    """The stages of one evaluation; the server is started when a question first needs it and ends with `stack`."""

    def __init__(self, config: EvalConfig, progress: RunProgress, stack: contextlib.ExitStack) -> None:
        self.config = config
        self.store = Store(root=config.artifacts)
        self.progress = progress
        self.stack = stack
        self._server: Server | None = None

    def server(self) -> Server:
        if self._server is None:
            logs = Path(tempfile.mkdtemp(dir=_made(self.config.artifacts / "logs"), prefix="serve-"))
            self._server = self.stack.enter_context(serving(self.config.serve, logs=logs, say=self.progress.note))
        return self._server

    def answers(self, candidate: Candidate, entry: str, benchmark: LoadedBenchmark) -> list[Answer]:
        """The candidate's answers to the benchmark's questions; only those an earlier run did not get are asked."""
        asked = [
            [question.id, list(question.turns), plain(benchmark.sampling(question))] for question in benchmark.questions
        ]

        def build(out: Path) -> Mapping[str, Any]:
            server = self.server()
            server.load(candidate.path)
            answers, passing = collect_answers(
                benchmark=benchmark,
                endpoint=server.endpoint,
                model=candidate.model,
                weights=candidate.weights,
                journal=out / ".answers.jsonl",
                advance=shown.advance,
            )
            if passing:
                raise _Unfinished(answers, passing)
            write_records(out / "answers.jsonl", answers)
            return {"answers": len(answers), "failed": sum(answer.reason is not None for answer in answers)}

        with self.progress.stage("answer", f"{candidate.model} · {entry}") as shown:
            try:
                artifact = self.store.produce(
                    "answers",
                    config={
                        "asked": digest(asked),
                        "benchmark": benchmark.name,
                        "serve": serving_key(self.config.serve),
                    },
                    inputs={"weights": candidate.weights},
                    modules=("eval.answers",),
                    build=build,
                )
            except _Unfinished as unfinished:
                self.progress.note(
                    f"{candidate.model}, {entry}: {unfinished} answers failed; repeat the command to ask again"
                )
                return unfinished.records
            shown.finished(reused=artifact.reused)
        # Equal weights under another name share their answers.
        return [
            replace(answer, model=candidate.model) for answer in read_records(artifact.path / "answers.jsonl", Answer)
        ]

    def verdicts(
        self, candidate: Candidate, entry: str, benchmark: LoadedBenchmark, answers: Sequence[Answer]
    ) -> list[Verdict | Unscored]:
        """One verdict, or the reason for none, per question and turn; each is on disk before the next is asked."""
        judge = self.config.judges[entry]
        plan = benchmark.plan(answers)

        def build(out: Path) -> Mapping[str, Any]:
            total = len(plan.requests)
            done = 0

            def counted(_: object) -> None:
                nonlocal done
                done += 1
                shown.advance(done, total)

            verdicts = collect_verdicts(
                benchmark=benchmark,
                answers=answers,
                judge=judge,
                journal=out / ".verdicts.jsonl",
                on_verdict=counted,
            )
            missing = sum(map(needs_asking, verdicts))
            if missing:
                raise _Unfinished(verdicts, missing)
            write_records(out / "verdicts.jsonl", verdicts)
            return {"verdicts": len(verdicts), "unscored": sum(isinstance(v, Unscored) for v in verdicts)}

        with self.progress.stage("judge", f"{candidate.model} · {entry}") as shown:
            try:
                artifact = self.store.produce(
                    "verdicts",
                    config={"judge": judge, "plan": digest(plain(plan)), "benchmark": self.config.benchmarks[entry]},
                    inputs={"recorded": file_digest(Path(judge.file))} if isinstance(judge, Recorded) else {},
                    modules=("eval.judges.collect", type(judge).__module__, type(benchmark).__module__),
                    build=build,
                )
            except _Unfinished as unfinished:
                self.progress.note(
                    f"{candidate.model}, {entry}: {unfinished} verdicts are missing; repeat the command to ask again"
                )
                return unfinished.records
            shown.finished(reused=artifact.reused)
        return read_verdicts(artifact.path / "verdicts.jsonl")

    def scored(
        self, candidate: Candidate, entry: str, benchmark: LoadedBenchmark, answers: Sequence[Answer]
    ) -> ScoredModel:
        """Metrics with their intervals, and the items behind them."""
        records = self.verdicts(candidate, entry, benchmark, answers)
        metrics = benchmark.metrics(records, answers, self.config.bootstrap)
        return _scored_model(candidate, benchmark.name, metrics, benchmark.item_scores(records, answers))

    def measured(self, candidate: Candidate, entry: str, harness: LMEvalHarness) -> list[ItemScore]:
        """What lm-eval finds on its tasks, one score per document."""

        def build(out: Path) -> Mapping[str, Any]:
            endpoint = None
            if harness.backend == "server":
                server = self.server()
                server.load(candidate.path)
                endpoint = server.endpoint
            items = harness.measure(checkpoint=candidate.path, data=self.config.data, endpoint=endpoint)
            write_records(out / "items.jsonl", items)
            return {"items": len(items)}

        with self.progress.stage("measure", f"{candidate.model} · {entry}") as shown:
            artifact = self.store.produce(
                "measured",
                config={"harness": harness, "serve": serving_key(self.config.serve)},
                inputs={"weights": candidate.weights},
                modules=("eval.benchmarks.lm_eval_harness",),
                build=build,
            )
            shown.finished(reused=artifact.reused)
        return read_records(artifact.path / "items.jsonl", ItemScore)


class _Unfinished(Exception):
    """Some records may still be had by asking again, so the stage is not finished; `records` serve this run's table."""

    def __init__(self, records: Any, missing: int) -> None:
        super().__init__(missing)
        self.records = records


def _scored_model(
    candidate: Candidate, benchmark: str, metrics: Sequence[MetricRow], items: Sequence[ItemScore]
) -> ScoredModel:
    return ScoredModel(
        model=candidate.model,
        group=candidate.group,
        benchmark=benchmark,
        metrics=tuple(metrics),
        items=tuple(items),
    )


def serving_key(serve: Serve) -> dict[str, Any]:
    """What of the server's settings can change an answer: which engine, at which precision, cut at which length."""
    found = plain(engine(serve))
    return {name: found[name] for name in ("type", "dtype", "max_model_len") if name in found}


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def digest(value: Any) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:20]
