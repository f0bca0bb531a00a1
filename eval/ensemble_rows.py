"""The ensembles among a run's rows: what they need while a source is served, their answers, their verdicts.

    rows = EnsembleRows(candidates, config, progress)
    rows.measure(run, candidate, entry, benchmark, answers)    # while the candidate is served: perplexities
    jobs += rows.jobs(loaded, answered)                        # answers that no source gave, judged like any model's
    judged += rows.selected(judged)                            # a source's own answers with their verdicts, as they are

Members are the candidates whose group is in `ensemble_members`, in the run's order.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from eval.answer.by_ensembles import by_question, mixed_answers, surprises
from eval.answer.candidate import Candidate, digest
from eval.answer.stages import Stages
from eval.benchmarks import LoadedBenchmark
from eval.benchmarks.protocol import Sampling
from eval.config import EvalConfig
from eval.ensembles import PREFIX
from eval.ensembles.packllm import PackLLM
from eval.ensembles.selection import Option, Selection
from eval.ensembles.writing import Writing
from eval.judging.judgement import JudgingJob
from eval.judging.judging import Judged
from eval.likelihood.surprise import Surprise
from eval.records import Answer, Question, Unscored, Verdict, Verdicts
from eval.scored import ScoredModel
from eval.serve.standing import starter
from fusion.runtime.artifacts import Store
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress

GROUP = "Ensembles"


@dataclass(frozen=True, kw_only=True)
class FusorQuestions:
    """A benchmark's way of asking with other questions: what the fusor is asked."""

    name: str
    questions: tuple[Question, ...]
    benchmark: LoadedBenchmark

    @property
    def asked_as(self) -> str:
        return self.name

    @property
    def usual_answer_tokens(self) -> int:
        return self.benchmark.usual_answer_tokens

    def sampling(self, question: Question) -> Sampling:
        return self.benchmark.sampling(question)


@dataclass(frozen=True, kw_only=True)
class MembersOn:
    """The members on one benchmark, for the rule of that `name`; its verbs give jobs to be judged."""

    rows: EnsembleRows
    run: Stages
    name: str
    entry: str
    benchmark: LoadedBenchmark
    said: Sequence[Mapping[str, Answer]]

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.benchmark.questions

    def ask(self, model: str, questions: tuple[Question, ...]) -> JudgingJob:
        own = self.rows.candidate(self.name)
        asked = FusorQuestions(name=self.benchmark.name, questions=questions, benchmark=self.benchmark)
        fusor = self.rows.candidates[model]
        candidate = replace(own, path=fusor.path, weights=fusor.weights)
        return self._job(candidate, self.run.answers(candidate, self.entry, asked))

    def mix(self, rule: PackLLM) -> JudgingJob:
        candidate, members = self.rows.candidate(self.name), self.rows.members
        answers = mixed_answers(self.run, candidate, members, self.entry, self.benchmark, rule)
        return self._job(candidate, answers)

    def _job(self, candidate: Candidate, answers: Sequence[Answer]) -> JudgingJob:
        return JudgingJob(candidate=candidate, entry=self.entry, benchmark=self.benchmark, answers=answers)


class EnsembleRows:
    """The ensembles of one evaluation; `served` says whether the candidates are checkpoints, not answers from a file.

    Raises Refusal when there are rules and no member, an unknown fusor, or a rule that needs checkpoints and has none.
    """

    def __init__(
        self, candidates: Sequence[Candidate], config: EvalConfig, progress: RunProgress, *, served: bool = True
    ) -> None:
        self.config = config
        self.progress = progress
        self.candidates = {candidate.model: candidate for candidate in candidates}
        self.members = [candidate for candidate in candidates if candidate.group in config.ensemble_members]
        self.writing = {name: cast(Writing, rule) for name, rule in config.ensembles.items() if not rule.selects}
        self.selecting = {name: cast(Selection, rule) for name, rule in config.ensembles.items() if rule.selects}
        self.surprises: dict[tuple[str, str], dict[str, Surprise]] = {}
        if config.ensembles and not self.members:
            groups = ", ".join(dict.fromkeys(candidate.group for candidate in candidates))
            raise Refusal(
                f"ensembles are made of {', '.join(config.ensemble_members)}, and this run has only {groups}: leave"
                " ensembles out, or name other groups in ensemble_members"
            )
        for name, rule in config.ensembles.items():
            if not served and rule.needs:
                raise Refusal(
                    f"ensembles: {name} needs the models themselves, and these are answers from a file: leave it out"
                )
        for rule in self.writing.values():
            rule.check(self.candidates)

    def measure(
        self, run: Stages, candidate: Candidate, entry: str, benchmark: LoadedBenchmark, answers: Sequence[Answer]
    ) -> None:
        """Keep the candidate's perplexities on its own conversations, if it is a member and a rule asks for them."""
        if candidate in self.members and any("perplexities" in rule.needs for rule in self.config.ensembles.values()):
            self.surprises[candidate.model, entry] = surprises(run, candidate, entry, benchmark, answers)

    def jobs(
        self,
        loaded: Mapping[str, LoadedBenchmark],
        answered: Mapping[tuple[str, str], Sequence[Answer]],
        store: Store,
        question_files: Mapping[str, str],
    ) -> list[JudgingJob]:
        """The answers of the rules that write their own; `question_files` as in `Stages`."""
        found = []
        with contextlib.ExitStack() as stack:
            logs, say = self.config.artifacts / "logs", self.progress.note
            started = starter(self.config.serve, stack, logs=logs, say=say)
            serve, progress = self.config.serve, self.progress
            run = Stages(
                config=self.config,
                progress=progress,
                store=store,
                server=started,
                serve=serve,
                question_files=question_files,
            )
            for name, rule in self.writing.items():
                for entry, benchmark in loaded.items():
                    said = [by_question(answered[member.model, entry]) for member in self.members]
                    members = MembersOn(rows=self, run=run, name=name, entry=entry, benchmark=benchmark, said=said)
                    found.append(rule.row(members))
        return found

    def selected(self, judged: Sequence[Judged]) -> list[Judged]:
        """The rows of the rules that select, of the members' judged answers."""
        by_place = {(one.job.candidate.model, one.job.entry): one for one in judged}
        entries = dict.fromkeys(one.job.entry for one in judged)
        found = []
        for name, rule in self.selecting.items():
            for entry in entries:
                members = [by_place[member.model, entry] for member in self.members]
                found.append(self._selected(self.candidate(name), rule, members))
        return found

    def in_order(self, scored: Iterable[ScoredModel]) -> list[ScoredModel]:
        """The ensembles' results in the order in which their rules were chosen."""
        names = [f"{PREFIX}{name}" for name in self.config.ensembles]
        return sorted(scored, key=lambda one: names.index(one.model))

    def candidate(self, name: str) -> Candidate:
        """A row without a checkpoint of its own: its weights are those of all members."""
        oracle = self.config.ensembles[name].oracle
        return Candidate(
            model=f"{PREFIX}{name}",
            group=GROUP,
            path=self.members[0].path,
            weights=digest([member.weights for member in self.members]),
            role="oracle" if oracle else "ensemble",
            oracle=oracle,
        )

    def _selected(self, candidate: Candidate, rule: Selection, members: Sequence[Judged]) -> Judged:
        job = members[0].job
        answers = [_all_answers(member.job) for member in members]
        scores = [main_scores(member) for member in members]
        measured = [self.surprises.get((member.job.candidate.model, job.entry), {}) for member in members]
        options = {
            question.id: [
                Option(
                    benchmark=job.benchmark.name,
                    model=member.job.candidate.model,
                    answer=answers[place][question.id],
                    score=scores[place].get(question.id),
                    surprise=measured[place].get(question.id),
                )
                for place, member in enumerate(members)
            ]
            for question in job.benchmark.questions
        }
        chosen = rule.choose(options)
        counts = Counter(members[place].job.candidate.model for place in chosen.values())
        self.progress.note(
            f"{candidate.model}, {job.entry}: "
            + ", ".join(f"{name} {counts[name]}" for name in (member.job.candidate.model for member in members))
        )
        names = dict.fromkeys(name for member in members for name in member.members)
        benchmark, games = job.benchmark, job.benchmark.head_to_head
        if games is not None:  # whoever any member met; a chosen answer never met itself
            boards = [board for member in members if (board := member.job.benchmark.head_to_head) is not None]
            benchmark = games.against({name: said for board in boards for name, said in board.opponents.items()})
        return Judged(
            job=replace(
                job,
                candidate=candidate,
                benchmark=benchmark,
                answers=[replace(answers[place][key], model=candidate.model) for key, place in chosen.items()],
            ),
            verdicts=_of_chosen([member.verdicts for member in members], chosen),
            said=_of_chosen([member.said for member in members], chosen),
            members={name: _of_chosen([member.members[name] for member in members], chosen) for name in names},
            costs=(),
        )


def main_scores(judged: Judged) -> dict[str, float]:
    """The mean of the main score over a question's turns, for questions of which every turn was scored.

    The main score of a benchmark is its primary metric.
    """
    items = judged.job.benchmark.item_scores(judged.verdicts, judged.job.answers)
    values: dict[str, list[float | None]] = {}
    for item in items:
        if item.metric == judged.job.benchmark.settings.primary.name:
            values.setdefault(item.question_id, []).append(item.value)
    return {
        question_id: float(np.mean([value for value in found if value is not None]))
        for question_id, found in values.items()
        if None not in found
    }


def _all_answers(job: JudgingJob) -> dict[str, Answer]:
    """An answer to every question: answers from a file may be fewer."""
    model = job.candidate.model
    none = {q.id: Answer(question_id=q.id, model=model, turns=(), reason="no answer") for q in job.benchmark.questions}
    return none | by_question(job.answers)


def _of_chosen(records: Sequence[Verdicts], chosen: Mapping[str, int]) -> list[Verdict | Unscored]:
    """Of each question the chosen source's records, in the questions' order."""
    by_place: dict[tuple[int, str], list[Verdict | Unscored]] = {}
    for place, own in enumerate(records):
        for record in own:
            by_place.setdefault((place, record.question_id), []).append(record)
    return [record for question_id, place in chosen.items() for record in by_place.get((place, question_id), [])]
