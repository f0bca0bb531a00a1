"""The stages that need the model under test: answers and measurements, each kept as an artifact and computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from eval.answer.candidate import Candidate, digest
from eval.answer.collect import collect_answers
from eval.answer.work import answering, placeholders
from eval.benchmarks.protocol import Asking, MeasuredBenchmark, next_messages
from eval.config import EvalConfig
from eval.errors import HarnessFailure, ServerFailure
from eval.records import Answer, ItemScore, read_records, write_records
from eval.scored import ScoredModel
from eval.scores.metric_row import MetricRow
from eval.serve import Endpoint, Serve, Transformers
from eval.serve.chat_template import refuse_unfit
from eval.serve.checkpoint import noted_dtype
from eval.serve.standing import StartedServer
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.configure import plain
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Advance, Stage, Unfinished
from fusion.runtime.versions import MODELS

T = TypeVar("T")


@dataclass(kw_only=True)
class Stages:
    """The stages of one evaluation."""

    config: EvalConfig
    progress: RunProgress
    store: Store
    # Called when a question first needs the server.
    server: StartedServer
    # How it is served: the config's way, pinned to GPUs where several servers run.
    serve: Serve
    # The precision of what answered last.
    computed_in: str | None = None
    # By entry, the sha256 of the file that its questions were read from: noted beside answers, so that looks at one set
    # of questions can be counted.
    question_files: Mapping[str, str] = field(default_factory=dict)

    def with_server(
        self, candidate: Candidate, ask: Callable[[Endpoint], T], *, complete: Callable[[T], bool] = lambda found: True
    ) -> T:
        """What `ask` gets of the candidate's server.

        A server that dies under it is restarted, which the server says, and asked once more; if that dies too, it is
        the caller's ServerFailure.
        """
        server = self.server()
        self.computed_in = server.load(candidate.path).dtype
        try:
            found = ask(server.endpoint)
        except (ServerFailure, HarnessFailure):
            if server.load(candidate.path).how != "restarted":
                raise
        else:
            if complete(found) or server.load(candidate.path).how != "restarted":
                return found
        return ask(server.endpoint)

    def answers(self, candidate: Candidate, entry: str, benchmark: Asking) -> list[Answer]:
        """The candidate's answers to the benchmark's questions; only those an earlier run did not get are asked."""
        asked = [
            [question.id, list(question.turns), plain(benchmark.sampling(question))] for question in benchmark.questions
        ]

        chosen = self.config.serve

        def build(out: Path, advance: Advance) -> Mapping[str, Any]:
            template = chosen.template_of(candidate.path)
            if template is not None:
                firsts = (next_messages(question, ()) for question in benchmark.questions)
                refuse_unfit(template, firsts, where=candidate.path)

            def ask(endpoint: Endpoint) -> tuple[list[Answer], int]:
                return collect_answers(
                    benchmark=benchmark,
                    endpoint=endpoint,
                    model=candidate.model,
                    weights=candidate.weights,
                    journal=out / ".answers.jsonl",
                    advance=advance,
                )

            answers, passing = self.with_server(candidate, ask, complete=lambda found: not found[1])
            if passing:
                raise Unfinished(answers, passing)
            write_records(out / "answers.jsonl", answers)
            failed = sum(answer.reason is not None for answer in answers)
            return {
                "answers": len(answers),
                "failed": failed,
                "dtype": self.computed_in,
                "questions": self.question_files.get(entry),
            }

        stage = Stage(
            name="answers",
            what=f"{candidate.model} · {entry}",
            config={
                "asked": digest(asked),
                "benchmark": benchmark.asked_as,
                "serve": chosen.identity(),
            },
            inputs={"weights": candidate.weights},
            modules=("eval.answer.collect", *chosen.modules),
            build=build,
            libraries=chosen.libraries,
            device=chosen.runs_on,
            work=lambda known: (answering(known, candidate, benchmark, chosen), None),
        )
        try:
            artifact = self.progress.produce(self.store, stage)
        except Unfinished as unfinished:
            self.progress.note(
                f"{candidate.model}, {entry}: {unfinished} answers failed; repeat the command to ask again"
            )
            return list(unfinished.records)
        return answers_of(artifact, candidate, benchmark)

    def measured(self, candidate: Candidate, entry: str, harness: MeasuredBenchmark) -> list[ItemScore]:
        """What a benchmark that measures by itself finds, one score per document.

        It measures in this process where the server answers chat requests only.
        """
        chosen = self.serve
        here = chosen.in_process
        if here is not None and harness.served:
            harness = harness.in_process(device=here.device, dtype=here.dtype)

        def build(out: Path, advance: Advance) -> Mapping[str, Any]:
            def measure(endpoint: Endpoint | None) -> list[ItemScore]:
                return harness.measure(checkpoint=candidate.path, data=self.config.data, endpoint=endpoint)

            by_server = harness.served
            in_process = Transformers(dtype=harness.dtype).precision(noted_dtype(candidate.path))
            items = self.with_server(candidate, measure) if by_server else measure(None)
            write_records(out / "items.jsonl", items)
            return {"items": len(items), "dtype": self.computed_in if by_server else in_process}

        served = harness.served
        stage = Stage(
            name="measured",
            what=f"{candidate.model} · {entry}",
            config={"harness": harness, "serve": chosen.identity() if served else None},
            inputs={"weights": candidate.weights, **harness.origin(self.config.data)},
            modules=(type(harness).__module__, *(chosen.modules if served else ())),
            build=build,
            libraries=(*harness.libraries, *(chosen.libraries if served else MODELS)),
            device=chosen.runs_on if served else harness.device,
        )
        artifact = self.progress.produce(self.store, stage)
        return artifact.read(lambda path: read_records(path / "items.jsonl", ItemScore), stand_in=lambda key: [])


def answers_of(artifact: Artifact, candidate: Candidate, asked: Asking) -> list[Answer]:
    """The candidate's answers in an artifact.  Equal weights under another name share them."""
    answers = artifact.read(
        lambda path: read_records(path / "answers.jsonl", Answer),
        stand_in=lambda key: placeholders(asked, model=candidate.model, key=key),
    )
    return [replace(answer, model=candidate.model) for answer in answers]


def scored_model(
    candidate: Candidate, benchmark: str, metrics: Sequence[MetricRow], items: Sequence[ItemScore]
) -> ScoredModel:
    """One candidate's result on one benchmark."""
    return ScoredModel(
        model=candidate.model,
        group=candidate.group,
        benchmark=benchmark,
        metrics=tuple(metrics),
        items=tuple(items),
        role=candidate.role,
        oracle=candidate.oracle,
    )
