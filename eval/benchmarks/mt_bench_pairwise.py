"""MT-Bench by comparison: a judge sees two models' answers to one turn and says which is better (Zheng et al. 2023).

Every pair is shown twice, each answer once as A (game 1: the model's own first; game 2: the opponent's first), because
judges favour a place.  fastchat's rule makes one outcome of the two games: equal verdicts are a win, a loss or a tie,
unequal ones a tie; a pair with a game that cannot be read is left out (here: unscored, with its reason).

A verdict's value is the preference for the model, as AlpacaEval's is: 2 it wins, 1.5 tie, 1 its opponent wins; `order`
is 1 or 2, whether its answer was shown first or second.  `against` binds the answers to compare with; who meets whom
in a run of several models is `eval.judging.head_to_head`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from eval.agreement.votes import VoteKind
from eval.benchmarks.fastchat.files import NO_SCORE
from eval.benchmarks.fastchat.judgments import PairJudgments, rows_of
from eval.benchmarks.fastchat.means import fastchat_pair_rows
from eval.benchmarks.fastchat.prompts import judge_messages, judge_prompts
from eval.benchmarks.fastchat.verdict_letter import LOSS, TIE, WIN, parse_verdict
from eval.benchmarks.mt_bench import LoadedMTBench, MTBench
from eval.benchmarks.paired_games import ORDERS, GamePair, pairwise_rows
from eval.benchmarks.protocol import BenchmarkFiles, JudgedAlone, JudgingPlan, Sampling, find
from eval.benchmarks.slots import all_slots, read_reply, settle_missing
from eval.exchange import JudgeRequest, Reply
from eval.records import Answer, ItemScore, Question, Unscored, Verdict, Verdicts
from eval.scores.intervals import Uncertainty
from eval.scores.metric import Metric
from eval.scores.metric_row import MetricRow
from fusion.runtime.configure import Refusal

WIN_RATE = Metric(
    name="pairwise_win_rate",
    unit="percent",
    decimals=1,
    shown=(("all", "MT-Bench pairwise %"),),
    title="MT-Bench pairwise win rate",
    proportion=True,
)


@dataclass(frozen=True, kw_only=True)
class MTBenchPairwise:
    """Settings of one entry; all but `baseline` are MT-Bench's (`eval.benchmarks.mt_bench.MTBench`).

    `baseline`: whom every model is compared with: a model of the run by its name, or a file of answers (ending in
    .jsonl or .jsonl.gz; relative to `paths.data`).  None: all pairs of the run's models.
    """

    name: ClassVar[str] = "mt_bench_pairwise"
    needs_judge: ClassVar[bool] = True
    package: ClassVar[str] = "fastchat"
    annotator: ClassVar[str] = ""
    verdicts: ClassVar[VoteKind] = "preference"
    primary: ClassVar[Metric] = WIN_RATE
    metrics: ClassVar[tuple[Metric, ...]] = (
        WIN_RATE,
        Metric(
            name="position_consistency",
            unit="percent",
            sense=0,
            decimals=1,
            shown=(("all", "same in both orders %"),),
            proportion=True,
        ),
        Metric(name="first_position_bias", unit="percent", sense=0, decimals=1, between=(-100.0, 100.0)),
        Metric(name="pairwise_wins", unit="count", decimals=0),
        Metric(name="pairwise_ties", unit="count", sense=0, decimals=0),
        Metric(name="pairwise_losses", unit="count", sense=-1, decimals=0),
        Metric(name="pairwise_win_rate_fastchat", unit="percent", decimals=1, proportion=True),
    )

    questions: str | None = None
    judge_prompts: str | None = None
    references: str | None = None
    baseline: str | None = None
    temperature: float | None = None
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        assert self.single  # its own checks

    @property
    def single(self) -> MTBench:
        """The same questions, asked and sampled in the same way."""
        return MTBench(
            questions=self.questions,
            judge_prompts=self.judge_prompts,
            references=self.references,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )

    @property
    def baseline_file(self) -> str | None:
        """The baseline's file, where `baseline` is one."""
        given = self.baseline or ""
        return given if given.removesuffix(".gz").endswith(".jsonl") else None

    def files(self, data: Path, *, questions: Path | None = None) -> BenchmarkFiles:
        """Where this entry's files are.  Raises Refusal for one that is not there."""
        found = self.single.files(data, questions=questions)
        return replace(found, baseline=find(self.baseline_file, data, what="the baseline's answers"))

    def load(self, files: BenchmarkFiles) -> LoadedMTBenchPairwise:
        """Read the files.  Raises Refusal naming file and row for what is not in MT-Bench's schema."""
        single = self.single.load(replace(files, judge_prompts=None))
        if files.judge_prompts is not None:
            single = replace(single, prompts=judge_prompts(files.judge_prompts, "pair"))
        baseline = () if files.baseline is None else tuple(single.read_answers(files.baseline))
        return LoadedMTBenchPairwise(settings=self, single=single, baseline=baseline)

    def stand_in(self) -> None:
        """Nothing is planned of pairs whose questions are not there."""


@dataclass(frozen=True, kw_only=True)
class LoadedMTBenchPairwise(JudgedAlone):
    """The benchmark with its files read.  `baseline`: answers from the baseline's file, empty where there is none;
    `opponents`: by name the answers that one model is compared with.
    """

    settings: MTBenchPairwise
    single: LoadedMTBench
    baseline: tuple[Answer, ...] = ()
    opponents: Mapping[str, Sequence[Answer]] = field(default_factory=dict)

    name: ClassVar[str] = "mt_bench_pairwise"
    reading: ClassVar[str] = parse_verdict.__module__

    @property
    def asked_as(self) -> str:
        """A model that was asked for single ratings is not asked again."""
        return self.single.name

    @property
    def head_to_head(self) -> LoadedMTBenchPairwise:
        return self

    @property
    def compared_with(self) -> str | None:
        return self.settings.baseline

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.single.questions

    def sampling(self, question: Question) -> Sampling:
        """As for a single rating."""
        return self.single.sampling(question)

    def read_answers(self, path: Path) -> list[Answer]:
        """Answers from fastchat's model_answer JSONL, or of every model of a directory of such files."""
        return self.single.read_answers(path)

    def against(self, opponents: Mapping[str, Sequence[Answer]]) -> LoadedMTBenchPairwise:
        """The benchmark for one model, with the answers of those it is compared with."""
        return replace(self, opponents=opponents)

    def plan(self, answers: Sequence[Answer]) -> JudgingPlan:
        """Two games per question, turn and opponent; where either gave no answer both are settled as unscored."""
        slots = all_slots(self.questions)
        answered, missing = settle_missing(slots, answers)
        requests, settled = [], []
        for opponent, theirs in self.opponents.items():
            met, absent = settle_missing(slots, theirs)
            other = {(question.id, turn): answer for question, turn, answer in met}
            reasons = {
                (blank.question_id, blank.turn): replace(blank, reason=f"{opponent}: {blank.reason}")
                for blank in absent
            }
            reasons |= {(blank.question_id, blank.turn): blank for blank in missing}
            for blank in reasons.values():
                settled += [replace(blank, opponent=opponent, order=order) for order in ORDERS]
            for question, turn, answer in answered:
                if (question.id, turn) in other:
                    requests += [
                        self._request(question, turn, answer, other[question.id, turn], order=order) for order in ORDERS
                    ]
        return JudgingPlan(requests=tuple(requests), settled=tuple(settled))

    def read(self, request: JudgeRequest, reply: Reply, *, judge: str) -> Verdict | Unscored:
        """The preference that the judge's letter says.

        Raises Refusal when a replayed file states another winner than its own words say.
        """

        def parse(reply: Reply) -> float:
            if reply.value == NO_SCORE:
                raise ValueError("the file marks the game as an error: fastchat could not read its verdict")
            value = parse_verdict(reply.text, shown_first=request.order == 1)
            if reply.value is not None and reply.value != value:
                winner = {WIN: request.model, LOSS: request.opponent, TIE: "nobody"}
                raise Refusal(
                    f"question {request.question_id}, turn {request.turn}: the file says that"
                    f" {winner[reply.value]} wins, but its judgment says {winner[value]}: the judgment file was edited"
                )
            return value

        return read_reply(request, reply, judge=judge, parse=parse)

    def pairs(self, verdicts: Verdicts) -> list[GamePair]:
        """Every pair of games, in the order of the questions and then of the opponents."""
        found = {(record.question_id, record.turn, record.opponent, record.order): record for record in verdicts}
        return [
            GamePair(
                question=question,
                turn=turn,
                opponent=opponent,
                games=tuple(found.get((question.id, turn, opponent, order)) for order in ORDERS),
            )
            for question, turn in all_slots(self.questions)
            for opponent in self.opponents
        ]

    def item_scores(self, verdicts: Verdicts, answers: Sequence[Answer]) -> list[ItemScore]:
        """One `pairwise_win_rate` (0 to 1) per question and turn: the mean outcome over the opponents that have
        one.  The baseline itself has no items and no rows.
        """
        found: dict[tuple[str, int], list[GamePair]] = {}
        for pair in self.pairs(verdicts):
            found.setdefault((pair.question.id, pair.turn), []).append(pair)
        scores = []
        for (question_id, turn), pairs in found.items():
            outcomes = [pair.outcome for pair in pairs if pair.outcome is not None]
            scores.append(
                ItemScore(
                    benchmark=self.name,
                    metric="pairwise_win_rate",
                    question_id=question_id,
                    turn=turn,
                    category=pairs[0].question.category,
                    value=sum(outcomes) / len(outcomes) if outcomes else None,
                    reason=None if outcomes else pairs[0].reason,
                )
            )
        return scores

    def metrics(self, verdicts: Verdicts, answers: Sequence[Answer], uncertainty: Uncertainty) -> list[MetricRow]:
        """Over all pairs, each turn, each category, and against each opponent (`against NAME`): outcomes and the two
        measures of position bias, intervals clustered by question.
        """
        if not self.opponents:
            return []
        pairs = self.pairs(verdicts)
        slices = {"all": pairs}
        for turn in range(1, max(len(question.turns) for question in self.questions) + 1):
            slices[f"turn{turn}"] = [pair for pair in pairs if pair.turn == turn]
        for category in dict.fromkeys(question.category for question in self.questions):
            slices[category] = [pair for pair in pairs if pair.question.category == category]
        if len(self.opponents) > 1:
            for opponent in self.opponents:
                slices[f"against {opponent}"] = [pair for pair in pairs if pair.opponent == opponent]
        return [row for name, rows in slices.items() for row in pairwise_rows(name, rows, uncertainty)]

    def recorded_rows(
        self, file: Path, model: str | None, answers: Sequence[Answer], verdicts: Verdicts, uncertainty: Uncertainty
    ) -> Sequence[MetricRow]:
        """`pairwise_win_rate_fastchat` where the file holds other pairs than were judged here."""
        named = model or answers[0].model
        rows = PairJudgments(file, rows_of(file), model).rows(named, self.opponents)
        ours = sum(pair.outcome is not None for pair in self.pairs(verdicts))
        return () if ours == len(rows) else fastchat_pair_rows(rows, named, self.questions, uncertainty)

    def _request(self, question: Question, turn: int, answer: Answer, other: Answer, *, order: int) -> JudgeRequest:
        references = question.references or ()
        first, second = (answer, other) if order == 1 else (other, answer)
        return JudgeRequest(
            benchmark=self.name,
            question_id=question.id,
            turn=turn,
            model=answer.model,
            form="verdict_letter",
            question=question.turns[turn - 1],
            answers=(first.turns[turn - 1], second.turns[turn - 1]),
            reference=references[turn - 1] if len(references) >= turn else None,
            messages=judge_messages(
                self.single.prompts, "pair", question, turn, {"answer_a": first.turns, "answer_b": second.turns}
            ),
            switched=order == 1,
            opponent=other.model,
            order=order,
        )
