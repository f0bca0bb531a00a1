"""AlpacaEval 2: each answer against a named baseline's answer to the same instruction (Dubois et al. 2024).

Annotators (prompt, request, parsing, order of presentation) and metrics are those of the `alpaca-eval` package; the
judge is asked by `eval.judges`.  The length-controlled win rate is the package's on the official 805 instructions, our
variant `own_set` on any other set (`eval.scores.length_control`), and refused on a part of a set drawn here.

    rows: win_rate, standard_error, discrete_win_rate, length_controlled_win_rate (percent), average_length (characters)
    on the official set also length_controlled_standard_error, the package's, and beside it ours (_refit), in points
    with `orders: both` also position_bias, in points
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eval.agreement.votes import VoteKind
from eval.benchmarks import stand_ins
from eval.benchmarks.alpaca.metrics import (
    METRICS,
    WIN_RATE,
    BaselineComparison,
    length_row,
    official_rows,
    own_set_row,
    position_bias_row,
    refused_row,
    win_rate_rows,
)
from eval.benchmarks.pairwise_preference import (
    AS_PUBLISHED,
    SHOWN_FIRST,
    SHOWN_SECOND,
    annotator,
    judged_pairs,
    shown_switched,
)
from eval.benchmarks.protocol import BenchmarkFiles, JudgedAlone, JudgingPlan, Sampling, find
from eval.benchmarks.slots import NOBODY, all_slots, read_reply, settle_missing
from eval.exchange import RECORDED, JudgeRequest, Reply
from eval.files import read_rows, wanted
from eval.records import Answer, ItemScore, Question, Unscored, Verdict, Verdicts
from eval.scores.intervals import Uncertainty
from eval.scores.length_control import PENALTY_C, LengthControl
from eval.scores.metric import Metric
from eval.scores.metric_row import MetricRow
from eval.scores.win_rate import discrete
from fusion.runtime.configure import Refusal, nearest

# Of the official instructions in their order, as a JSON list: the row number is what the package's difficulties go by.
_OFFICIAL_INSTRUCTIONS = "e4356cd997a280afd66c7dd3f9d44a151d2e94a3d4c2b67ab5d364a14404ae26"


@dataclass(frozen=True, kw_only=True)
class AlpacaEval:
    """Settings of one AlpacaEval entry; paths are relative to `paths.data`.

    The protocol fixes no sampling for the model under test; these defaults are what most of the package's own model
    configs use.
    """

    name: ClassVar[str] = "alpaca_eval"
    needs_judge: ClassVar[bool] = True
    primary: ClassVar[Metric] = WIN_RATE
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    package: ClassVar[str] = "alpaca_eval"
    verdicts: ClassVar[VoteKind] = "preference"

    # Rows with instruction, output (the baseline's), generator (its name), dataset; None: made by the run (the pocket
    # set).
    questions: str | None = None
    baseline: str | None = None  # another model's outputs to compare with
    gamed: str | None = None  # the package's df_gamed.csv, needed for the official length-controlled rate
    annotator: str = "weighted_alpaca_eval_gpt4_turbo"
    temperature: float = 0.7
    max_tokens: int = 2048
    limit: int | None = None  # the first so many instructions
    only: tuple[str, ...] | None = None  # instructions of these subsets
    # `both`: each pair is shown in both orders, and its preference is their mean.
    orders: Literal["published", "both"] = "published"
    length_control: LengthControl = "package"  # how the official rate's penalty is chosen
    length_control_c: float = PENALTY_C  # the penalty where `length_control` is fixed, and on a set of one's own

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: expected at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}: expected 0 or more")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}: expected at least 1")
        if self.length_control_c <= 0:
            raise ValueError(f"length_control_c is {self.length_control_c}: expected more than 0")

    def files(self, data: Path, *, questions: Path | None = None) -> BenchmarkFiles:
        """Where this entry's files are.  Raises Refusal for one that is not there."""
        asked = questions or find(self.questions, data, what="AlpacaEval's instruction file")
        if asked is None:
            raise Refusal("this AlpacaEval entry names no instruction file: set benchmark.<entry>.questions")
        return BenchmarkFiles(
            questions=asked,
            baseline=find(self.baseline, data, what="the baseline's outputs"),
            gamed=None if self.gamed is None else data / self.gamed,  # only the official set needs it to be there
        )

    def load(self, files: BenchmarkFiles) -> LoadedAlpacaEval:
        """Read the files.  Raises Refusal naming file and row for what is not in AlpacaEval's schema."""
        rows = read_rows(files.questions)
        questions = tuple(
            _question(row, path=files.questions, number=number) for number, row in enumerate(rows, start=1)
        )
        source = files.baseline or files.questions
        outputs: dict[str, tuple[str, str]] = {}
        for number, row in enumerate(read_rows(source) if files.baseline else rows, start=1):
            instruction, output = wanted(row, "instruction", "output", path=source, number=number)
            if instruction in outputs:
                raise Refusal(f"{source}, row {number}: this instruction occurs twice")
            if not isinstance(output, str):
                raise Refusal(f"{source}, row {number}: the baseline's output is {output!r}: expected text")
            outputs[instruction] = (output, str(row.get("generator", "baseline")))
        lacking = [question.id for question in questions if question.turns[0] not in outputs]
        if lacking:
            raise Refusal(f"{files.baseline} has no output for {len(lacking)} of {len(questions)} instructions")
        drawn = _drawn(questions, self, files.questions)
        paired = [outputs[question.turns[0]] for question in drawn]
        generators = list(dict.fromkeys(generator for _, generator in paired))
        if len(generators) > 1:
            raise Refusal(f"the baseline's outputs come from {', '.join(generators[:3])}: expected one generator")
        return LoadedAlpacaEval(
            settings=self,
            questions=drawn,
            whole=questions,
            baseline=tuple(output for output, _ in paired),
            baseline_name=generators[0],
            gamed=files.gamed,
        )

    def stand_in(self) -> LoadedAlpacaEval | None:
        """As many instructions of about the published lengths; None for a set that the run makes itself."""
        if self.questions is None:
            return None
        instructions, baseline = stand_ins.alpaca_eval(self.limit)
        return LoadedAlpacaEval(
            settings=self,
            questions=instructions,
            whole=instructions,
            baseline=baseline,
            baseline_name="baseline",
            gamed=None,
        )


@dataclass(frozen=True, kw_only=True)
class LoadedAlpacaEval(JudgedAlone):
    """AlpacaEval with its files read: `questions` are those drawn from the `whole` set, `baseline[i]` is the baseline's
    answer to the i-th of them.
    """

    settings: AlpacaEval
    questions: tuple[Question, ...]
    whole: tuple[Question, ...]
    baseline: tuple[str, ...]
    baseline_name: str
    gamed: Path | None

    name: ClassVar[str] = "alpaca_eval"
    reading: ClassVar[str] = annotator.__module__
    usual_answer_tokens: ClassVar[int] = 400

    @property
    def official(self) -> bool:
        """Whether these are the published 805 instructions, in their order."""
        listed = json.dumps([question.turns[0] for question in self.questions], ensure_ascii=False)
        return hashlib.sha256(listed.encode()).hexdigest() == _OFFICIAL_INSTRUCTIONS

    def sampling(self, question: Question) -> Sampling:
        return Sampling(temperature=self.settings.temperature, max_tokens=self.settings.max_tokens)

    def read_answers(self, path: Path) -> list[Answer]:
        """Answers from the package's outputs file, or from an annotations file (its `output_2`); those to instructions
        that were not drawn are left.

        Raises Refusal for an instruction that is not in the set: the package would leave it out silently.
        """
        numbers = {question.turns[0]: question.id for question in self.whole}
        drawn = {question.id for question in self.questions}
        answers = []
        for number, row in enumerate(read_rows(path), start=1):
            suffix = "_2" if "output_2" in row else ""
            instruction, output = wanted(row, "instruction", f"output{suffix}", path=path, number=number)
            if instruction not in numbers:
                raise Refusal(f"{path}, row {number}: this instruction is not in the set: {str(instruction)[:80]!r}")
            model = str(row.get(f"generator{suffix}", path.name.split(".")[0]))
            if numbers[instruction] in drawn:
                question = numbers[instruction]
                if output is None:  # as a failed generation leaves it
                    answers.append(Answer(question_id=question, model=model, turns=(), reason="its output is null"))
                    continue
                if not isinstance(output, str):
                    raise Refusal(f"{path}, row {number}: output is {output!r}: expected text, or null for no answer")
                answers.append(Answer(question_id=question, model=model, turns=(output,)))
        return answers

    def plan(self, answers: Sequence[Answer]) -> JudgingPlan:
        """One comparison per instruction and order; equal outputs are a draw without asking, as in the package."""
        answered, missing = settle_missing(all_slots(self.questions), answers)
        settled: list[Verdict | Unscored] = list(missing)
        requests = []
        baselines = {question.id: output for question, output in zip(self.questions, self.baseline, strict=True)}
        orders = (SHOWN_FIRST, SHOWN_SECOND) if self.settings.orders == "both" else (AS_PUBLISHED,)
        for question, _, answer in answered:
            baseline = baselines[question.id]
            if answer.turns[0] == baseline:
                draw = Verdict(question_id=question.id, turn=1, value=1.5, judge=NOBODY, text="equal outputs")
                settled.append(draw)
            else:
                requests += [self._request(question, baseline, answer, order) for order in orders]
        return JudgingPlan(requests=tuple(requests), settled=tuple(settled))

    def read(self, request: JudgeRequest, reply: Reply, *, judge: str) -> Verdict | Unscored:
        """The preference, 1 (baseline) to 2 (model), from the reply; a replayed one is taken as the file states it."""

        def parse(reply: Reply) -> float:
            replayed = judge.startswith(RECORDED)
            if replayed and request.order != AS_PUBLISHED:
                raise ValueError("a recorded preference is on one order of showing only: set orders=published")
            if replayed and reply.value is None:
                raise ValueError("the file holds this pair without a preference")
            if reply.value is None:
                return annotator(self.settings.annotator).preference(reply, switched=request.switched)
            value = reply.value or 1.5  # 0 is the package's older way to write a draw
            if not 1 <= value <= 2:
                raise ValueError(f"the recorded preference {value:g} lies outside 1 to 2")
            return value

        return read_reply(request, reply, judge=judge, parse=parse)

    def item_scores(self, verdicts: Verdicts, answers: Sequence[Answer]) -> list[ItemScore]:
        """`win_rate` and `discrete_win_rate` (0 to 1) and `average_length` (characters) of every instruction."""
        found = judged_pairs(verdicts)
        said = {answer.question_id: answer for answer in answers if answer.turns}
        scores = []
        for question in self.questions:
            pair = found.get(question.id)
            preferred, reason = (None, "not judged") if pair is None else (pair.preference, pair.reason)
            answer = said.get(question.id)
            values = {
                "win_rate": (None if preferred is None else preferred - 1, reason),
                "discrete_win_rate": (None if preferred is None else discrete(preferred), reason),
                "average_length": (None, "no answer") if answer is None else (float(len(answer.turns[0])), None),
            }
            for metric, (value, why) in values.items():
                scores.append(
                    ItemScore(
                        benchmark=self.name,
                        metric=metric,
                        question_id=question.id,
                        turn=1,
                        category=question.category,
                        value=value,
                        reason=why,
                    )
                )
        return scores

    def metrics(self, verdicts: Verdicts, answers: Sequence[Answer], uncertainty: Uncertainty) -> list[MetricRow]:
        """The metrics on slice `all`; those that cannot be computed say why."""
        said = {answer.question_id: answer.turns[0] for answer in answers if answer.turns}
        judged = judged_pairs(verdicts)
        pairs = [judged.get(question.id) for question in self.questions]
        replayed = any(verdict.judge.startswith(RECORDED) for verdict in verdicts)
        found = {
            v.question_id for v in verdicts if isinstance(v, Verdict) or v.kind not in ("not_recorded", "no_answer")
        }
        comparison = BaselineComparison(
            baseline_name=self.baseline_name,
            baseline=self.baseline,
            own=tuple(said.get(question.id) for question in self.questions),
            preferences=tuple(None if pair is None else pair.preference for pair in pairs),
            absent=frozenset(i for i, question in enumerate(self.questions) if replayed and question.id not in found),
        )
        rows = win_rate_rows(comparison, uncertainty)
        if len(self.questions) < len(self.whole):
            rows.append(refused_row(comparison, whole=len(self.whole)))
        elif self.official:
            how, c = self.settings.length_control, self.settings.length_control_c
            rows += official_rows(comparison, self.gamed, uncertainty, how=how, c=c)
        else:
            rows.append(own_set_row(comparison, uncertainty, c=self.settings.length_control_c))
        if self.settings.orders == "both":
            rows.append(position_bias_row(comparison, pairs, uncertainty))
        return [*rows, length_row(comparison, uncertainty)]

    def _request(self, question: Question, baseline: str, answer: Answer, order: int) -> JudgeRequest:
        asked = annotator(self.settings.annotator)
        switched = shown_switched(question.turns[0]) if order == AS_PUBLISHED else order == SHOWN_FIRST
        first, second = (answer.turns[0], baseline) if switched else (baseline, answer.turns[0])
        return JudgeRequest(
            benchmark=self.name,
            question_id=question.id,
            turn=1,
            model=answer.model,
            form=asked.form,
            question=question.turns[0],
            answers=(first, second),
            reference=question.references[0] if question.references else None,
            messages=asked.messages(instruction=question.turns[0], first=first, second=second),
            switched=switched,
            temperature=asked.temperature,
            max_tokens=asked.max_tokens,
            top_logprobs=asked.top_logprobs,
            extra=asked.extra,
            order=order,
        )


def _question(row: dict[str, object], *, path: Path, number: int) -> Question:
    """Numbered by its row from 0: the package's instruction difficulties go by that number."""
    (instruction,) = wanted(row, "instruction", path=path, number=number)
    reference = row.get("reference")
    return Question(
        id=str(number - 1),
        category=str(row.get("dataset", "")),
        turns=(str(instruction),),
        references=None if reference is None else (str(reference),),
    )


def _drawn(questions: tuple[Question, ...], settings: AlpacaEval, path: Path) -> tuple[Question, ...]:
    """The questions that `only` and `limit` leave.  Raises Refusal for a subset the file does not have."""
    subsets = dict.fromkeys(question.category for question in questions)
    for name in settings.only or ():
        if name not in subsets:
            raise Refusal(f"only={name}: {path} has no such subset: {nearest(name, subsets)}")
    kept = [question for question in questions if settings.only is None or question.category in settings.only]
    if not kept:
        raise Refusal(f"only=[] leaves no instruction of {path}: name subsets, or null for all")
    return tuple(kept[: settings.limit])
