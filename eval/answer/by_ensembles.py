"""What ensembles compute with checkpoints, kept as artifacts: perplexities, and answers from several models at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.answer.candidate import Candidate, digest
from eval.answer.stages import Stages, answers_of
from eval.answer.work import mixing, reading
from eval.benchmarks import LoadedBenchmark
from eval.ensembles.packllm import PackLLM
from eval.likelihood.chat_text import conversation
from eval.likelihood.surprise import Surprise, measure_here, measure_served, read_surprises, write_surprises
from eval.records import Answer, Journal, read_records, write_records
from fusion.runtime.stage import Advance, Stage
from fusion.runtime.versions import MODELS


def surprises(
    run: Stages, candidate: Candidate, entry: str, benchmark: LoadedBenchmark, answers: Sequence[Answer]
) -> dict[str, Surprise]:
    """The candidate's perplexities, kept as the artifact "perplexity"; a question that has none is left out."""
    questions, said = benchmark.questions, by_question(answers)
    spoken = [[question.id, conversation(question, said[question.id])] for question in questions]
    serve = run.serve

    def build(out: Path, advance: Advance) -> Mapping[str, Any]:
        here = serve.in_process
        if here is not None:
            found = measure_here(candidate.path, questions, answers, here)
        else:
            found = run.with_server(candidate, lambda at: measure_served(candidate.path, at, questions, answers))
        write_surprises(out / "surprises.jsonl", found)
        return {"conversations": len(found), "unmeasured": sum(isinstance(one, str) for one in found.values())}

    stage = Stage(
        name="perplexity",
        what=f"{candidate.model} · {entry}",
        config={"said": digest(spoken), "serve": serve.identity()},
        inputs={"weights": candidate.weights},
        modules=("eval.likelihood.surprise", *serve.modules),
        build=build,
        libraries=serve.libraries,
        device=serve.runs_on,
        work=lambda known: (reading(known, candidate, benchmark), None),
    )
    artifact = run.progress.produce(run.store, stage)
    return artifact.read(lambda path: read_surprises(path / "surprises.jsonl"), stand_in=lambda key: {})


def mixed_answers(
    run: Stages,
    candidate: Candidate,
    members: Sequence[Candidate],
    entry: str,
    benchmark: LoadedBenchmark,
    rule: PackLLM,
) -> list[Answer]:
    """The members' common answers, kept as an artifact "answers"; a killed run goes on at the first that is missing."""
    asked = [
        [question.id, list(question.turns), benchmark.sampling(question).max_tokens] for question in benchmark.questions
    ]

    def build(out: Path, advance: Advance) -> Mapping[str, Any]:
        from eval.ensembles.mixture import Mixture, Unanswerable
        from eval.likelihood.local_model import LocalModel

        done = {answer.question_id: answer for answer in read_records(out / ".answers.jsonl", Answer)}
        models = [LocalModel.load(member.path, dtype=rule.dtype, device=rule.device) for member in members]
        mixture = Mixture(models)
        with Journal(out / ".answers.jsonl") as journal:
            for question in benchmark.questions:
                if question.id in done:
                    continue
                answer = Answer(question_id=question.id, model=candidate.model, turns=(), weights=candidate.weights)
                try:
                    turns = mixture.answer(question, rule, benchmark.sampling(question).max_tokens)
                    answer = replace(answer, turns=turns)
                except Unanswerable as reason:
                    answer = replace(answer, turns=reason.turns, reason=str(reason))
                journal.append(answer)
                done[question.id] = answer
                advance(len(done), len(benchmark.questions))
        write_records(out / "answers.jsonl", [done[question.id] for question in benchmark.questions])
        failed = sum(answer.reason is not None for answer in done.values())
        return {"answers": len(done), "failed": failed, "questions": run.question_files.get(entry)}

    stage = Stage(
        name="answers",
        what=f"{candidate.model} · {entry}",
        config={"asked": digest(asked), "benchmark": benchmark.name, "rule": rule},
        inputs={f"weights.{place}": member.weights for place, member in enumerate(members)},
        modules=("eval.ensembles.mixture", type(rule).__module__),
        build=build,
        libraries=MODELS,
        device=rule.device,
        work=lambda known: (mixing(known, members, benchmark), None),
    )
    return answers_of(run.progress.produce(run.store, stage), candidate, benchmark)


def by_question(answers: Iterable[Answer]) -> dict[str, Answer]:
    """One model's answers by their question."""
    return {answer.question_id: answer for answer in answers}
