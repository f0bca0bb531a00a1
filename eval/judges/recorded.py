"""A judge that replays published verdicts: fastchat's judgments or alpaca-eval's annotations, plain or `.gz`.

    python -m eval benchmark=mt_bench answers=ANSWERS.jsonl judge=recorded judge.file=JUDGMENTS.jsonl out=DIR

A verdict counts only for the answer it was given on.  Where a file holds several verdicts on one turn (fastchat appends
on every re-run), the last one that carries a score counts: a re-run replaces what it repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import JudgeFailure
from eval.judges.exchange import RECORDED, JudgeRequest, Reply
from eval.records import read_rows, wanted

_NO_SCORE = -1  # fastchat's mark for a judgment it could not read


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Settings: the `file` with the verdicts, and `model`, the judged model's name there.

    `model` None: the model's own name, else the one whose judged answers are these.
    """

    file: str
    model: str | None = None

    @property
    def label(self) -> str:
        return f"{RECORDED}:{Path(self.file).name}"

    def judge(self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None]) -> None:
        """Hand over one reply per request, in order; what the file does not hold is missing, with the reason.

        Raises Refusal for an unreadable file, JudgeFailure when it holds no verdicts of the benchmark or of the model.
        """
        path = Path(self.file)
        rows = read_rows(path)
        if "preference" in rows[0]:
            replies: Callable[[JudgeRequest], Reply] = Annotations(path, rows).reply
            form = "preference"
        elif "judgment" in rows[0]:
            replies = Judgments(path, rows, self.model, requests).reply
            form = "rating"
        else:
            raise JudgeFailure(f"{path} holds neither judgments (fastchat) nor annotations (alpaca-eval)")
        for request in requests:
            if (request.form == "rating") != (form == "rating"):
                raise JudgeFailure(f"{path} holds {form}s, which {request.benchmark} does not use")
            hand_over(request, replies(request))


class Annotations:
    """alpaca-eval's annotations by instruction."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = {}
        for number, row in enumerate(rows, start=1):
            names = ("instruction", "output_1", "output_2", "preference")
            instruction, *_ = wanted(dict(row), *names, path=path, number=number)
            self._rows[instruction] = row

    def reply(self, request: JudgeRequest) -> Reply:
        """The recorded preference, when it was given on this very pair of outputs; None where the file has none."""
        row = self._rows.get(request.question)
        if row is None:
            return Reply(failure="the file holds no verdict on this instruction", missing=True)
        first, second = request.answers
        baseline, own = (second, first) if request.switched else (first, second)
        if row["output_2"] != own:
            return Reply(failure="the recorded verdict is on another answer", missing=True)
        if row["output_1"] != baseline:
            return Reply(failure="the recorded verdict is against another baseline's answer", missing=True)
        preference = row["preference"]
        text, top = _first_token(row.get("raw_completion") or row.get("preference_raw_completion"))
        unscored = preference is None or preference != preference
        return Reply(text=text, top_logprobs=top, value=None if unscored else float(preference))


class Judgments:
    """fastchat's single-answer judgments by question and turn, of one model."""

    def __init__(
        self, path: Path, rows: Sequence[Mapping[str, Any]], model: str | None, requests: Sequence[JudgeRequest]
    ) -> None:
        by_model: dict[str, dict[tuple[str, int], Mapping[str, Any]]] = {}
        for number, row in enumerate(rows, start=1):
            names = ("question_id", "turn", "model", "judgment", "score")
            question_id, turn, judged, _, score = wanted(dict(row), *names, path=path, number=number)
            verdicts = by_model.setdefault(str(judged), {})
            if score != _NO_SCORE or (str(question_id), turn) not in verdicts:
                verdicts[str(question_id), turn] = row
        named = model or (requests[0].model if requests else "")
        if named not in by_model and model is None:
            shared = {name: sum(_on(request, rows) for request in requests) for name, rows in by_model.items()}
            named = max(shared, key=shared.__getitem__) if max(shared.values()) > len(requests) / 2 else named
        if named not in by_model:
            raise JudgeFailure(f"{path} judges {', '.join(by_model)}, not {named}: set judge.model to one of them")
        self._rows = by_model[named]

    def reply(self, request: JudgeRequest) -> Reply:
        """The recorded judgment, when it was given on this very answer."""
        row = self._rows.get((request.question_id, request.turn))
        if row is None:
            return Reply(failure="the file holds no verdict on this turn", missing=True)
        if not _on(request, self._rows):
            return Reply(failure="the recorded verdict is on another answer", missing=True)
        score = row["score"]
        return Reply(text=str(row["judgment"]), value=None if score == _NO_SCORE else float(score))


def _on(request: JudgeRequest, rows: Mapping[tuple[str, int], Mapping[str, Any]]) -> bool:
    """Whether the recorded prompt shows the very answer that is asked about."""
    row = rows.get((request.question_id, request.turn), {})
    return request.answers[0] in row.get("user_prompt", "")


def _first_token(completion: Any) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Text and first-token probabilities of a raw completion, as far as the file kept them."""
    if not isinstance(completion, Mapping):
        return ("" if completion is None else str(completion)), ()
    content = (completion.get("logprobs") or {}).get("content") or [{}]
    top = tuple((str(entry["token"]), float(entry["logprob"])) for entry in content[0].get("top_logprobs", []))
    return str(completion.get("text", "")), top
