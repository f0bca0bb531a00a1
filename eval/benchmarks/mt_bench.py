"""MT-Bench: two-turn questions in categories, each turn of each answer rated 1 to 10 by a judge (Zheng et al. 2023).

Questions, judge prompts and reference answers are read from the benchmark's own files; temperatures, the categories
that need a reference, the patterns and the file loaders are those of the `fschat` package.  Two departures, both about
bookkeeping: one verdict per question and turn (fastchat appends on every re-run and averages repeats), and a rating
that is missing or outside 1 to 10 is unscored (fastchat: -1, dropped at display; above 10 averaged in).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from eval.agreement.votes import VoteKind
from eval.benchmarks import stand_ins
from eval.benchmarks.fastchat.files import NO_SCORE
from eval.benchmarks.fastchat.judgments import Judgments, rows_of
from eval.benchmarks.fastchat.means import counted_alike, fastchat_rows
from eval.benchmarks.fastchat.prompts import Prompts, judge_messages, judge_prompts
from eval.benchmarks.fastchat.rules import fastchat_common
from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.protocol import BenchmarkFiles, JudgedAlone, JudgingPlan, Sampling, find
from eval.benchmarks.slots import all_slots, read_reply, settle_missing
from eval.errors import JudgeFailure
from eval.exchange import JudgeRequest, Reply
from eval.files import identifier, read_rows, texts, wanted
from eval.records import Answer, ItemScore, Question, Unscored, Verdict, Verdicts
from eval.scores.intervals import Uncertainty
from eval.scores.metric import Metric
from eval.scores.metric_row import MetricRow, mean_row
from fusion.runtime.configure import Refusal

# The published reference answers by their author: the originals, and the corrected ones of FastChat pull request 3158.
REFERENCES: Mapping[str, str] = {
    author: f"mt_bench/reference_answer/{author}.jsonl" for author in ("gpt-4", "gpt-4-0125-preview")
}
RATING = Metric(
    name="rating",
    unit="rating",
    decimals=2,
    shown=(("all", "MT-Bench"), ("turn1", "turn 1"), ("turn2", "turn 2")),
    title="MT-Bench rating",
)
# fastchat's `gen_model_answer` falls back to this for a category its table does not have.
_UNKNOWN_CATEGORY_TEMPERATURE = 0.7


@dataclass(frozen=True, kw_only=True)
class MTBench:
    """Settings of one MT-Bench entry; paths are relative to `paths.data`."""

    name: ClassVar[str] = "mt_bench"
    needs_judge: ClassVar[bool] = True
    package: ClassVar[str] = "fastchat"
    annotator: ClassVar[str] = ""
    verdicts: ClassVar[VoteKind] = "rating"
    primary: ClassVar[Metric] = RATING
    metrics: ClassVar[tuple[Metric, ...]] = (RATING, Metric(name="rating_fastchat", unit="rating", decimals=2))

    questions: str | None = None  # None: the question file is made by the run (the pocket set)
    judge_prompts: str | None = None
    # A name in REFERENCES, or a file; None: known answers are the question file's own `reference` field.  The official
    # field of that name is *not* what fastchat's judge sees, so official entries name reference answers.
    references: str | None = None
    temperature: float | None = None  # None: fastchat's table by category
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: expected at least 1")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}: expected 0 or more, or null for fastchat's own table")

    def files(self, data: Path, *, questions: Path | None = None) -> BenchmarkFiles:
        """Where this entry's files are.  Raises Refusal for one that is not there."""
        asked = questions or find(self.questions, data, what="MT-Bench's question file")
        if asked is None:
            raise Refusal("this MT-Bench entry names no question file: set benchmark.<entry>.questions")
        return BenchmarkFiles(
            questions=asked,
            judge_prompts=find(self.judge_prompts, data, what="MT-Bench's judge prompts"),
            references=find(
                REFERENCES.get(self.references or "", self.references), data, what="MT-Bench's reference answers"
            ),
        )

    def load(self, files: BenchmarkFiles) -> LoadedMTBench:
        """Read the files.  Raises Refusal naming file and row for what is not in MT-Bench's schema."""
        references = None if files.references is None else _reference_answers(files.references)
        questions = tuple(
            _question(row, references, path=files.questions, number=number)
            for number, row in enumerate(read_rows(files.questions), start=1)
        )
        ids = [question.id for question in questions]
        if len(set(ids)) != len(ids):
            repeated = next(one for one in ids if ids.count(one) > 1)
            raise Refusal(f"{files.questions}: question_id {repeated} occurs twice")
        prompts = {} if files.judge_prompts is None else judge_prompts(files.judge_prompts, "single")
        return LoadedMTBench(settings=self, questions=questions, prompts=prompts)

    def stand_in(self) -> LoadedMTBench | None:
        """As many questions of about the published lengths; None for a set that the run makes itself."""
        if self.questions is None:
            return None
        return LoadedMTBench(settings=self, questions=stand_ins.mt_bench(), prompts=stand_ins.mt_bench_prompts())


@dataclass(frozen=True, kw_only=True)
class LoadedMTBench(JudgedAlone):
    """MT-Bench with its files read; `prompts` are the published judge prompts by name, empty when not given."""

    settings: MTBench
    questions: tuple[Question, ...]
    prompts: Prompts

    name: ClassVar[str] = "mt_bench"
    reading: ClassVar[str] = parse_rating.__module__

    def sampling(self, question: Question) -> Sampling:
        """Temperature by the question's category, unless the entry sets one for all."""
        temperature = self.settings.temperature
        if temperature is None:
            table = fastchat_common().temperature_config
            temperature = float(table.get(question.category, _UNKNOWN_CATEGORY_TEMPERATURE))
        return Sampling(temperature=temperature, max_tokens=self.settings.max_tokens)

    def read_answers(self, path: Path) -> list[Answer]:
        """Answers from fastchat's model_answer JSONL, or from all such files of a directory.  As there, the file's name
        is the model's name, and of repeated rows of one question the last counts.
        """
        if path.is_dir():
            files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")])
            if not files:
                raise Refusal(f"{path} holds no .jsonl file: expected fastchat's model_answer folder")
            return [answer for file in files for answer in self.read_answers(file)]
        model = path.name.removesuffix(".gz").removesuffix(".jsonl")
        answers = {}
        for number, row in enumerate(read_rows(path), start=1):
            question_id, choices = wanted(row, "question_id", "choices", path=path, number=number)
            name = _identifier(question_id, path=path, number=number)
            try:
                turns = texts(choices[0]["turns"])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise Refusal(f"{path}, row {number}: expected choices[0].turns, a list of texts") from error
            answers[name] = Answer(question_id=name, model=model, turns=turns)
        return list(answers.values())

    def plan(self, answers: Sequence[Answer]) -> JudgingPlan:
        """One rating per question and turn.  A missing answer, or a missing turn, is settled as unscored.

        Turn 2 is judged with both turns in view, and with both reference answers where the category needs them.
        """
        answered, settled = settle_missing(all_slots(self.questions), answers)
        requests = [self._request(question, turn, answer) for question, turn, answer in answered]
        return JudgingPlan(requests=tuple(requests), settled=tuple(settled))

    def read(self, request: JudgeRequest, reply: Reply, *, judge: str) -> Verdict | Unscored:
        """The rating in the judge's words.

        Raises Refusal when a replayed file states another rating than its own words say.
        """

        def parse(reply: Reply) -> float:
            if reply.value == NO_SCORE:
                raise ValueError("the file scores it -1, fastchat's mark for a judgment that it could not read")
            rating = parse_rating(reply.text)
            if reply.value is not None and reply.value != rating:
                raise Refusal(
                    f"the recorded rating of question {request.question_id}, turn {request.turn} is {reply.value:g},"
                    f" but its judgment says {rating:g}: the judgment file was edited"
                )
            return rating

        return read_reply(request, reply, judge=judge, parse=parse)

    def item_scores(self, verdicts: Verdicts, answers: Sequence[Answer]) -> list[ItemScore]:
        """One `rating` per question and turn, in the order of the questions.  `answers` are not needed."""
        found = {(verdict.question_id, verdict.turn): verdict for verdict in verdicts}
        scores = []
        for question, turn in all_slots(self.questions):
            verdict = found.get((question.id, turn))
            scores.append(
                ItemScore(
                    benchmark=self.name,
                    metric="rating",
                    question_id=question.id,
                    turn=turn,
                    category=question.category,
                    value=verdict.value if isinstance(verdict, Verdict) else None,
                    reason=None if isinstance(verdict, Verdict) else getattr(verdict, "reason", "not judged"),
                )
            )
        return scores

    def metrics(self, verdicts: Verdicts, answers: Sequence[Answer], uncertainty: Uncertainty) -> list[MetricRow]:
        """Mean rating over all rows of both turns, over each turn, and over each category; clustered by question."""
        scores = self.item_scores(verdicts, answers)
        slices = {"all": scores}
        for turn in range(1, max(len(question.turns) for question in self.questions) + 1):
            slices[f"turn{turn}"] = [score for score in scores if score.turn == turn]
        for category in dict.fromkeys(question.category for question in self.questions):
            slices[category] = [score for score in scores if score.category == category]
        return [
            mean_row(
                self.name,
                "rating",
                name,
                [row.value for row in rows],
                [row.question_id for row in rows],
                uncertainty,
                ends=RATING.ends,
            )
            for name, rows in slices.items()
        ]

    def recorded_rows(
        self, file: Path, model: str | None, answers: Sequence[Answer], verdicts: Verdicts, uncertainty: Uncertainty
    ) -> Sequence[MetricRow]:
        """`rating_fastchat` where the file holds repeats, failures, ratings off the scale or of other answers."""
        requests = self.plan(answers).requests
        if not requests:
            return ()
        try:
            rows = Judgments(file, rows_of(file), model, requests).rows
        except JudgeFailure:  # answers picked from several models: the file has no name for their picker
            return ()
        ours = sum(isinstance(record, Verdict) for record in verdicts)
        alike = counted_alike(rows) and ours == len(rows)
        return () if alike else fastchat_rows(rows, self.questions, uncertainty)

    def _request(self, question: Question, turn: int, answer: Answer) -> JudgeRequest:
        references = question.references or ()
        return JudgeRequest(
            benchmark=self.name,
            question_id=question.id,
            turn=turn,
            model=answer.model,
            form="rating",
            question=question.turns[turn - 1],
            answers=(answer.turns[turn - 1],),
            reference=references[turn - 1] if len(references) >= turn else None,
            messages=judge_messages(self.prompts, "single", question, turn, {"answer": answer.turns}),
        )


def _question(
    row: dict[str, Any], references: Mapping[str, tuple[str, ...]] | None, *, path: Path, number: int
) -> Question:
    question_id, category, turns = wanted(row, "question_id", "category", "turns", path=path, number=number)
    name = _identifier(question_id, path=path, number=number)
    known = references.get(name) if references is not None else row.get("reference")
    try:
        return Question(
            id=name,
            category=str(category),
            turns=texts(turns),
            references=texts(known) if isinstance(known, list) else known,
        )
    except ValueError as error:
        raise Refusal(f"{path}, row {number}: {error}") from error


def _identifier(value: object, *, path: Path, number: int) -> str:
    try:
        return identifier(value)
    except ValueError as error:
        raise Refusal(f"{path}, row {number}: question_id: {error}") from error


def _reference_answers(path: Path) -> dict[str, tuple[str, ...]]:
    # fastchat's loader reads a directory of such files; its rows are answers like any model's.
    references = {}
    for number, row in enumerate(read_rows(path), start=1):
        question_id, choices = wanted(row, "question_id", "choices", path=path, number=number)
        name = _identifier(question_id, path=path, number=number)
        try:
            references[name] = texts(choices[0]["turns"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Refusal(f"{path}, row {number}: expected choices[0].turns, a list of texts") from error
    return references
