"""What a judged benchmark is, and the small records it is asked and answered with.

loaded = BENCHMARKS["mt_bench"](...).load(files)
for question in loaded.questions:                     # answer, turn by turn
    messages = next_messages(question, said=()) ; sampling = loaded.sampling(question)
plan = loaded.plan(answers)                           # judge
verdicts = [*plan.settled, *(loaded.read(request, judge.reply(request), judge="...") for request in plan.requests)]
rows = loaded.metrics(verdicts, answers, uncertainty)   # score
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from eval.agreement.votes import VoteKind
from eval.exchange import JudgeRequest, Reply
from eval.records import Answer, ItemScore, Question, Unscored, Verdict, Verdicts
from eval.scores.intervals import Uncertainty
from eval.scores.metric import Metric
from eval.scores.metric_row import MetricRow
from eval.serve.server import Endpoint
from fusion.runtime.configure import Refusal

ModelDtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkFiles:
    """Where a benchmark's data lie.  What is None was not given, and is needed only by those who would read it.

    `baseline`: outputs to compare with, when they are not the question file's own.  `gamed`: AlpacaEval's df_gamed.csv.
    """

    questions: Path
    judge_prompts: Path | None = None
    references: Path | None = None
    baseline: Path | None = None
    gamed: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the model under test is sampled on one question."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class JudgingPlan:
    """What must be asked of the judge, and what is settled without asking (no answer; equal outputs)."""

    requests: tuple[JudgeRequest, ...]
    settled: tuple[Verdict | Unscored, ...]


class Asking(Protocol):
    """What is asked of a model, and how it is sampled."""

    @property
    def name(self) -> str:
        """The protocol's name, as the `benchmark` column of scores.csv has it."""

    @property
    def asked_as(self) -> str:
        """The name that its answers are kept under; benchmarks that ask alike share it."""

    @property
    def questions(self) -> tuple[Question, ...]: ...

    @property
    def usual_answer_tokens(self) -> int:
        """About how many tokens an answer to one turn has, where max_tokens allows; for plans."""

    def sampling(self, question: Question) -> Sampling: ...


class LoadedBenchmark(Asking, Protocol):
    """A benchmark with its files read."""

    # The module that reads a judge model's reply.  The benchmark's own holds its statistics too, and a change of those
    # must not ask a paid judge again; what is asked is in the key word for word.
    reading: ClassVar[str]

    @property
    def settings(self) -> JudgedBenchmark: ...

    @property
    def baseline_name(self) -> str:
        """Whose answers the judge sees beside the model's, where a request names no opponent."""

    @property
    def head_to_head(self) -> HeadToHead | None:
        """The benchmark itself where it compares models of the run with each other."""

    def recorded_rows(
        self, file: Path, model: str | None, answers: Sequence[Answer], verdicts: Verdicts, uncertainty: Uncertainty
    ) -> Sequence[MetricRow]:
        """What a replayed file says by its own package's way of counting, where that can differ from ours; `model` is
        the judged model's name there."""

    def read_answers(self, path: Path) -> list[Answer]:
        """Answers in the package's own file format."""

    def plan(self, answers: Sequence[Answer]) -> JudgingPlan: ...

    def read(self, request: JudgeRequest, reply: Reply, *, judge: str) -> Verdict | Unscored: ...

    def item_scores(self, verdicts: Verdicts, answers: Sequence[Answer]) -> list[ItemScore]: ...

    def metrics(self, verdicts: Verdicts, answers: Sequence[Answer], uncertainty: Uncertainty) -> list[MetricRow]: ...


class JudgedAlone:
    """What is so of a loaded benchmark unless it says otherwise: it compares no models of the run."""

    name: ClassVar[str]
    usual_answer_tokens: ClassVar[int] = 260
    baseline_name: str = "baseline"

    @property
    def asked_as(self) -> str:
        return self.name

    @property
    def head_to_head(self) -> HeadToHead | None:
        return None

    def recorded_rows(
        self, file: Path, model: str | None, answers: Sequence[Answer], verdicts: Verdicts, uncertainty: Uncertainty
    ) -> Sequence[MetricRow]:
        return ()


class HeadToHead(LoadedBenchmark, Protocol):
    """A benchmark that compares models of the run with each other."""

    @property
    def opponents(self) -> Mapping[str, Sequence[Answer]]:
        """By name the answers that one model is compared with."""

    @property
    def baseline(self) -> tuple[Answer, ...]:
        """The answers from the baseline's file, where it is one."""

    @property
    def compared_with(self) -> str | None:
        """The baseline: a model of the run by its name, or a file; None: all pairs."""

    def against(self, opponents: Mapping[str, Sequence[Answer]]) -> HeadToHead:
        """The benchmark for one model, with the answers of those it is compared with."""


class JudgedBenchmark(Protocol):
    """A judged benchmark's settings: one entry of conf/benchmark.

    `metrics`: all that its rows may hold, in the order of the leaderboard's columns; `primary`: the one whose items the
    judge's verdicts are, whose unscored items are the benchmark's, and which studies compare.
    """

    name: ClassVar[str]
    needs_judge: ClassVar[bool]
    metrics: ClassVar[tuple[Metric, ...]]
    primary: ClassVar[Metric]
    # What a verdict's value is: one answer's rating, or which of two answers is better (1 to 2).
    verdicts: ClassVar[VoteKind]
    # The package in whose own files results are left too (`eval.report.packages.fastchat`); empty for none.
    package: ClassVar[str]

    @property
    def annotator(self) -> str:
        """Which of several ways to ask and to read is chosen; empty where there is one."""

    def files(self, data: Path, *, questions: Path | None = None) -> BenchmarkFiles: ...

    def load(self, files: BenchmarkFiles) -> LoadedBenchmark: ...

    def stand_in(self) -> LoadedBenchmark | None:
        """The benchmark without its files, about as large as published, for plans; None where that is not known."""


class MeasuredBenchmark(Protocol):
    """The settings of a benchmark that asks, parses and scores by itself."""

    name: ClassVar[str]
    needs_judge: ClassVar[bool]

    # The packages that compute its items.
    libraries: ClassVar[tuple[str, ...]]

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> ModelDtype: ...

    @property
    def served(self) -> bool:
        """Whether it asks a running server."""

    def in_process(self, *, device: str, dtype: ModelDtype) -> MeasuredBenchmark:
        """The same on a model that this process loads."""

    def measure(self, *, checkpoint: Path, data: Path, endpoint: Endpoint | None = None) -> list[ItemScore]: ...

    def origin(self, data: Path) -> dict[str, str]:
        """Versions and digests of what it is made from, for the key of what it measures."""

    def metrics(self, scores: Sequence[ItemScore], uncertainty: Uncertainty) -> list[MetricRow]: ...


def next_messages(question: Question, said: Sequence[str]) -> list[dict[str, str]]:
    """The chat so far, ending with the user's next turn; `said` are the model's own answers to the turns before it."""
    messages = []
    for turn, text in enumerate(question.turns[: len(said) + 1]):
        messages.append({"role": "user", "content": text})
        if turn < len(said):
            messages.append({"role": "assistant", "content": said[turn]})
    return messages


def find(path: str | None, data: Path, *, what: str) -> Path | None:
    """`path` below `data` (an absolute path stays as it is); a file packed beside it as `.gz` serves too.

    Raises Refusal when neither is there.
    """
    if path is None:
        return None
    plain = data / path
    for candidate in (plain, plain.with_name(plain.name + ".gz")):
        if candidate.exists():
            return candidate
    raise Refusal(f"{what} is not at {plain}: fetch the benchmark data, or set paths.data (FUSECHAT_LAB_DATA)")
