"""Bits per byte of given answers: how well a model expects good text, whatever its tokenizer.

    bits per byte = - sum log2 p(answer | question) / UTF-8 bytes of the answers

Every model is shown the same questions and answers, each in its own chat template; counted are the tokens that hold an
answer's characters, given all before them.  The end of a turn and the template's own text are not counted.  A model
answers nothing, so no judge and no sampling are in the figure, and models too small to answer well can be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from eval.benchmarks.protocol import ModelDtype, find
from eval.errors import HarnessFailure
from eval.files import read_rows, wanted
from eval.likelihood.surprise import Surprise, measure_here, measure_served
from eval.records import Answer, ItemScore, Question
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow, mean_row
from eval.serve.server import Endpoint, InProcess
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import file_digest

METRIC = "bits_per_byte"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Questions with answers, of one kind: some rows of a file, a JSON list or JSON lines, plain or packed (`.gz`)."""

    label: str
    """What the table calls them."""
    path: str
    """Relative to `paths.data`."""
    question: str = "instruction"
    """The field that holds what the user says."""
    answer: str = "output"
    """The field that holds the answer."""
    skip: int = 0
    """Rows at the beginning that are left out, as those a model may have learned from."""
    first: int | None = None
    """How many rows are taken then; None: all."""

    def __post_init__(self) -> None:
        if self.label in ("", ALL):
            raise ValueError(f"label is {self.label!r}: expected a name of these documents, other than {ALL!r}")
        if self.skip < 0 or (self.first is not None and self.first < 1):
            raise ValueError(f"{self.label}: skip is {self.skip} and first {self.first}: expected 0 or more, 1 or more")


@dataclass(frozen=True, kw_only=True)
class TextBPB:
    """Settings of one entry."""

    name: ClassVar[str] = "text_bpb"
    needs_judge: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()

    documents: tuple[Documents, ...]
    max_bytes: int = 2000
    """Longer answers are left out, for all models alike: every model has to see a document whole."""
    # `server` asks the running endpoint for token log-probabilities, `hf` loads the checkpoint in this process.
    backend: Literal["server", "hf"] = "server"
    device: str = "cpu"  # for hf
    dtype: ModelDtype = "auto"  # for hf; auto: the checkpoint's own

    def __post_init__(self) -> None:
        labels = [one.label for one in self.documents]
        if not labels:
            raise ValueError("documents is empty: name at least one file of questions with answers")
        if len(set(labels)) != len(labels):
            raise ValueError(f"documents name {next(one for one in labels if labels.count(one) > 1)} twice")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}: expected at least 1")

    @property
    def served(self) -> bool:
        return self.backend == "server"

    def in_process(self, *, device: str, dtype: ModelDtype) -> TextBPB:
        """The same on a model that this process loads."""
        return replace(self, backend="hf", device=device, dtype=dtype)

    def measure(self, *, checkpoint: Path, data: Path, endpoint: Endpoint | None = None) -> list[ItemScore]:
        """One score for each document: its bits, over the mean bytes of its kind, so that the mean over a kind is the
        kind's bits over its bytes.

        Raises HarnessFailure for a document that this model cannot be shown whole: figures over other documents would
        not be comparable.
        """
        read = [(one, *_read(one, data, self.max_bytes)) for one in self.documents]
        questions = [question for _, found, _ in read for question in found]
        answers = [answer for _, _, found in read for answer in found]
        if endpoint is not None and self.served:
            surprises = measure_served(checkpoint, endpoint, questions, answers)
        else:
            here = InProcess(device=self.device, dtype=self.dtype, longest=None)
            surprises = measure_here(checkpoint, questions, answers, here)
        scores = []
        for documents, asked, _ in read:
            found = [_measured(question, surprises) for question in asked]
            mean_bytes = sum(one.answer.bytes for one in found) / len(found)
            scores += [
                ItemScore(
                    benchmark=self.name,
                    metric=METRIC,
                    question_id=question.id,
                    turn=1,
                    category=documents.label,
                    value=one.answer.nats / math.log(2) / mean_bytes,
                )
                for question, one in zip(asked, found, strict=True)
            ]
        return scores

    def origin(self, data: Path) -> dict[str, str]:
        """A digest of every file."""
        return {one.label: file_digest(_file(one, data)) for one in self.documents}

    def metrics(self, scores: Sequence[ItemScore], uncertainty: Uncertainty) -> list[MetricRow]:
        """Of each kind, bits over bytes; of several, the mean over all documents too.  Intervals are over documents."""
        kinds = [one.label for one in self.documents]
        slices = {kind: [score for score in scores if score.category == kind] for kind in kinds}
        every = {ALL: list(scores), **slices} if len(kinds) > 1 else slices
        return [
            mean_row(self.name, METRIC, kind, [one.value for one in own], range(len(own)), uncertainty)
            for kind, own in every.items()
        ]


def _file(documents: Documents, data: Path) -> Path:
    found = find(documents.path, data, what=f"the documents '{documents.label}'")
    assert found is not None
    return found


def _read(documents: Documents, data: Path, max_bytes: int) -> tuple[list[Question], list[Answer]]:
    """The wanted documents of at most `max_bytes`; white space at an answer's ends, which templates treat each in its
    own way, is not part of it."""
    path = _file(documents, data)
    rows = read_rows(path)
    end = None if documents.first is None else documents.skip + documents.first
    questions, answers = [], []
    for number, row in list(enumerate(rows, start=1))[documents.skip : end]:
        values = wanted(row, documents.question, documents.answer, path=path, number=number)
        if not all(isinstance(value, str) for value in values):
            raise Refusal(f"{path}, row {number}: {documents.question} and {documents.answer} must be texts")
        asked, said = (value.strip() for value in values)
        if not asked or not said or len(said.encode()) > max_bytes:
            continue
        name = f"{documents.label}/{number}"
        questions.append(Question(id=name, category=documents.label, turns=(asked,)))
        answers.append(Answer(question_id=name, model="", turns=(said,)))
    if not questions:
        raise Refusal(
            f"{path} has no document '{documents.label}' with question and answer of at most {max_bytes} bytes among"
            f" rows {documents.skip + 1} to {end or len(rows)} of {len(rows)}"
        )
    return questions, answers


def _measured(question: Question, found: dict[str, Surprise | str]) -> Surprise:
    one = found[question.id]
    if isinstance(one, str):
        raise HarnessFailure(
            f"document {question.id} cannot be measured ({one}): every model must see the same documents whole; lower"
            " max_bytes or raise serve.max_model_len"
        )
    return one
