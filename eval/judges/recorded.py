"""A judge that replays published verdicts: fastchat's judgments or alpaca-eval's annotations, plain or `.gz`.

    python -m eval benchmark=mt_bench answers=ANSWERS.jsonl judge=recorded judge.file=JUDGMENTS.jsonl out=DIR

A verdict counts only for the answer it was given on.  Where a file holds several verdicts on one turn (fastchat appends
on every re-run), the last one that carries a score counts: a re-run replaces what it repeats
(`eval.benchmarks.fastchat.judgments`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.fastchat.judgments import Judgments, PairJudgments, rows_of
from eval.errors import JudgeFailure
from eval.exchange import RECORDED, HandOver, JudgeRequest, Reply
from eval.files import wanted
from eval.judges.forms import FORMS
from eval.judges.protocol import Identity, Member
from eval.serve import Serve
from fusion.runtime.configure import Refusal, plain
from fusion.runtime.digests import file_digest


@dataclass(frozen=True, kw_only=True)
class Recorded(Member):
    """Settings: the `file` with the verdicts, and `model`, the judged model's name there.

    `model` None: the model's own name, else the one whose judged answers are these.
    """

    file: str
    model: str | None = None

    @property
    def label(self) -> str:
        return f"{RECORDED}:{Path(self.file).name}"

    @property
    def replayed(self) -> tuple[Path, str | None]:
        return Path(self.file), self.model

    def identity(self, weights_of: Callable[[Path], str], served_as: Serve) -> Identity:
        settings = {name: value for name, value in plain(self).items() if name != "file"}
        return settings, {"recorded": file_digest(Path(self.file))}

    def obstacles(self, served_as: Serve) -> list[str]:
        try:
            rows_of(Path(self.file))
        except Refusal as refusal:
            return [str(refusal)]
        return []

    def judge(self, requests: Sequence[JudgeRequest], hand_over: HandOver) -> None:
        """Hand over one reply per request, in order; what the file does not hold is missing, with the reason.

        Raises Refusal for an unreadable file, JudgeFailure when it holds no verdicts of the benchmark or of the model.
        """
        path = Path(self.file)
        rows = rows_of(path)
        if not requests:
            return
        if "preference" in rows[0]:
            replies: Callable[[JudgeRequest], Reply] = Annotations(path, rows).reply
            held = "preferences"
        elif "judgment" in rows[0]:
            replies = Judgments(path, rows, self.model, requests).reply
            held = "ratings"
        elif "g1_judgment" in rows[0]:
            replies = PairJudgments(path, rows, self.model).reply
            held = "verdicts on pairs"
        else:
            raise JudgeFailure(f"{path} holds neither judgments (fastchat) nor annotations (alpaca-eval)")
        for request in requests:
            if FORMS[request.form].held != held:
                raise JudgeFailure(f"{path} holds {held}, which {request.benchmark} does not use")
            hand_over(request, replies(request))


class Annotations:
    """alpaca-eval's annotations by instruction; a file may hold those of several models."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows: dict[str, list[Mapping[str, Any]]] = {}
        for number, row in enumerate(rows, start=1):
            names = ("instruction", "output_1", "output_2", "preference")
            instruction, *_ = wanted(dict(row), *names, path=path, number=number)
            if not isinstance(instruction, str):
                raise Refusal(f"{path}, row {number}: instruction is {str(instruction)[:60]!r}: expected text")
            self._rows.setdefault(instruction, []).append(row)

    def reply(self, request: JudgeRequest) -> Reply:
        """The recorded preference, when it was given on this very pair of outputs; None where the file has none."""
        rows = self._rows.get(request.question, [])
        if not rows:
            return Reply(failure="the file holds no verdict on this instruction", missing=True)
        first, second = request.answers
        baseline, own = (second, first) if request.switched else (first, second)
        rows = [row for row in rows if row["output_2"] == own]
        if not rows:
            return Reply(failure="the recorded verdict is on another answer", missing=True)
        rows = [row for row in rows if row["output_1"] == baseline]
        if not rows:
            return Reply(failure="the recorded verdict is against another baseline's answer", missing=True)
        row = rows[-1]
        preference = _number(row["preference"])
        text, top = _first_token(row.get("raw_completion") or row.get("preference_raw_completion"))
        return Reply(text=text, top_logprobs=top, value=preference)


def _number(value: object) -> float | None:
    """A preference, also one that a table wrote as text; None for a failed one."""
    if isinstance(value, bool):  # a number to Python alone
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _first_token(completion: Any) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Text and first-token probabilities of a raw completion, as far as the file kept them."""
    if not isinstance(completion, Mapping):
        return ("" if completion is None else str(completion)), ()
    try:
        content = (completion.get("logprobs") or {}).get("content") or [{}]
        top = tuple((str(entry["token"]), float(entry["logprob"])) for entry in content[0].get("top_logprobs", []))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):  # of another shape: the preference counts
        top = ()
    return str(completion.get("text", "")), top
