"""Questions of one turn with known answers; the share of those rated at the pass mark or above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.agreement.votes import VoteKind
from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.protocol import BenchmarkFiles, JudgedAlone, JudgingPlan, Sampling, find
from eval.benchmarks.slots import all_slots, read_reply, settle_missing
from eval.exchange import JudgeRequest, Reply
from eval.files import read_rows, wanted
from eval.records import Answer, ItemScore, Question, Unscored, Verdict
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric import Metric
from eval.scores.metric_row import MetricRow
from fusion.runtime.configure import Refusal

PASSED = Metric(name="passed", unit="percent", decimals=1, shown=(("all", "Quiz passed"),), title="Quiz")


@dataclass(frozen=True, kw_only=True)
class Quiz:
    """Settings of one entry; paths are relative to `paths.data`."""

    name: ClassVar[str] = "quiz"
    needs_judge: ClassVar[bool] = True
    package: ClassVar[str] = ""
    annotator: ClassVar[str] = ""
    verdicts: ClassVar[VoteKind] = "rating"
    primary: ClassVar[Metric] = PASSED
    metrics: ClassVar[tuple[Metric, ...]] = (PASSED,)

    questions: str
    pass_mark: float = 10.0

    def files(self, data: Path, *, questions: Path | None = None) -> BenchmarkFiles:
        found = questions or find(self.questions, data, what="the quiz")
        if found is None:
            raise Refusal("the quiz names no question file: set benchmark.<entry>.questions")
        return BenchmarkFiles(questions=found)

    def load(self, files: BenchmarkFiles) -> LoadedQuiz:
        found = []
        for number, row in enumerate(read_rows(files.questions), start=1):
            key, asked, known = wanted(row, "id", "question", "answer", path=files.questions, number=number)
            found.append(Question(id=key, category="", turns=(asked,), references=(known,)))
        return LoadedQuiz(settings=self, questions=tuple(found))

    def stand_in(self) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class LoadedQuiz(JudgedAlone):
    """The quiz with its file read."""

    settings: Quiz
    questions: tuple[Question, ...]
    name: ClassVar[str] = Quiz.name
    reading: ClassVar[str] = parse_rating.__module__

    def sampling(self, question: Question) -> Sampling:
        return Sampling(temperature=0.0, max_tokens=64)

    def read_answers(self, path: Path) -> list[Answer]:
        return [Answer(question_id=row["id"], model=path.stem, turns=(row["said"],)) for row in read_rows(path)]

    def plan(self, answers: Sequence[Answer]) -> JudgingPlan:
        answered, settled = settle_missing(all_slots(self.questions), answers)
        requests = tuple(
            JudgeRequest(
                benchmark=self.name,
                question_id=question.id,
                turn=turn,
                model=answer.model,
                form="rating",
                question=question.turns[0],
                answers=answer.turns,
                reference=(question.references or (None,))[0],
                messages=(),
            )
            for question, turn, answer in answered
        )
        return JudgingPlan(requests=requests, settled=tuple(settled))

    def read(self, request: JudgeRequest, reply: Reply, *, judge: str) -> Verdict | Unscored:
        return read_reply(request, reply, judge=judge, parse=lambda said: parse_rating(said.text))

    def item_scores(self, verdicts: Sequence[Verdict | Unscored], answers: Sequence[Answer]) -> list[ItemScore]:
        return [
            ItemScore(
                benchmark=self.name,
                metric=PASSED.name,
                question_id=one.question_id,
                turn=one.turn,
                category="",
                value=float(one.value >= self.settings.pass_mark) if isinstance(one, Verdict) else None,
                reason=None if isinstance(one, Verdict) else one.reason,
            )
            for one in verdicts
        ]

    def metrics(
        self, verdicts: Sequence[Verdict | Unscored], answers: Sequence[Answer], uncertainty: Uncertainty
    ) -> list[MetricRow]:
        items = [item for item in self.item_scores(verdicts, answers) if item.value is not None]
        found = mean_interval([item.value or 0.0 for item in items], [item.question_id for item in items], uncertainty)
        return [
            MetricRow(
                benchmark=self.name,
                metric=PASSED.name,
                slice="all",
                value=PASSED.scale * found.value,
                n=found.n,
                unscored=len(verdicts) - found.n,
            )
        ]
