"""Answers and judgments as fastchat's own files, so that its tools read them and `judge=recorded` reads them back.

    model_answer/<model>.jsonl   model_judgment/<judge>_single.jsonl   model_judgment/<judge>_pair.jsonl

One row per question and turn (and pair), whatever was asked to get there, so fastchat's means are those of scores.csv.
What is unscored for want of an answer, or was not in a replayed file, has no row; every other unscored turn has the
mark that fastchat drops (-1, or `error`).  A verdict made of several replies has words that say the value.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks.fastchat.prompts import prompt_name
from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.fastchat.verdict_letter import TIE, parse_verdict, verdict_letter
from eval.exchange import JudgeRequest
from eval.records import Answer, Question, Unscored, Verdict, Verdicts

_NOTHING_SAID = "$ERROR$"  # fastchat's text of a judge that did not answer
_NO_ROW = ("no_answer", "not_recorded")

FileRow = dict[str, object]
# fastchat's mark for a judgment that it could not read; handed on as the recorded value.
NO_SCORE = -1.0


JudgmentRow = Mapping[str, Any]


def file_name(model: str) -> str:
    """A model's name as its files have it, in which fastchat's tools then know it."""
    return re.sub(r"[^\w.+-]+", "_", model).strip("_") or "_"


def write_jsonl(path: Path, rows: Iterable[FileRow]) -> None:
    """One row per line, the whole file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def answer_rows(answers: Sequence[Answer], *, written: float) -> list[FileRow]:
    """Rows of model_answer; `written` is the time stamp in seconds.  Questions without any answer have no row."""
    return [
        {
            "question_id": _id(answer.question_id),
            "answer_id": hashlib.sha256(repr((answer.model, answer.question_id, answer.turns)).encode()).hexdigest()[
                :22
            ],
            "model_id": answer.model,
            "choices": [{"index": 0, "turns": list(answer.turns)}],
            "tstamp": written,
        }
        for answer in answers
        if answer.turns
    ]


def single_rows(
    questions: Sequence[Question],
    requests: Sequence[JudgeRequest],
    verdicts: Verdicts,
    *,
    model: str,
    judge: str,
    written: float,
) -> list[FileRow]:
    """Rows of `<judge>_single.jsonl` for one model, in the order of the requests."""
    known = {question.id: question for question in questions}
    found = {record.place: record for record in verdicts}
    rows: list[FileRow] = []
    for request in requests:
        record = found.get(request.place)
        if not _has_row(record):
            continue
        score = _plain(record.value) if isinstance(record, Verdict) else -1
        rows.append(
            {
                "question_id": _id(request.question_id),
                "model": model,
                "judge": [judge, prompt_name("single", known[request.question_id], request.turn)],
                "user_prompt": _prompt(request),
                "judgment": _words(record),
                "score": score,
                "turn": request.turn,
                "tstamp": written,
            }
        )
    return rows


def pair_rows(
    questions: Sequence[Question],
    requests: Sequence[JudgeRequest],
    verdicts: Verdicts,
    *,
    model: str,
    names: Mapping[str, str],
    judge: str,
    written: float,
) -> list[FileRow]:
    """Rows of `<judge>_pair.jsonl` for one model's pairs: it is model_1, and game 1 is the one that shows it first.
    `names` are the opponents' in the files.
    """
    known = {question.id: question for question in questions}
    found = {record.place: record for record in verdicts}
    games: dict[tuple[str, int, str], dict[int, JudgeRequest]] = {}
    for request in requests:
        games.setdefault((request.question_id, request.turn, request.opponent), {})[request.order] = request
    rows = []
    for (question_id, turn, opponent), orders in games.items():
        first, second = orders[1], orders[2]
        records = [found.get(first.place), found.get(second.place)]
        if not all(map(_has_row, records)):
            continue
        row: FileRow = {
            "question_id": _id(question_id),
            "model_1": model,
            "model_2": names[opponent],
            "g1_winner": _winner(records[0]),
            "g2_winner": _winner(records[1]),
            "judge": [judge, prompt_name("pair", known[question_id], turn)],
        }
        for game, request, record in (("g1", first, records[0]), ("g2", second, records[1])):
            row[f"{game}_user_prompt"] = _prompt(request)
            row[f"{game}_judgment"] = _game_words(record, shown_first=request.order == 1)
        rows.append(row | {"turn": turn, "tstamp": written})
    return rows


def _has_row(record: Verdict | Unscored | None) -> bool:
    return isinstance(record, Verdict) or (record is not None and record.kind not in _NO_ROW)


def _winner(record: Verdict | Unscored | None) -> str:
    if not isinstance(record, Verdict):
        return "error"
    return "tie" if record.value == TIE else "model_1" if record.value > TIE else "model_2"


def _words(record: Verdict | Unscored | None) -> str:
    """The judge's words, if they say the verdict's rating; else a line that says it before them."""
    if not isinstance(record, Verdict):
        return (record and record.text) or _NOTHING_SAID
    try:
        if parse_rating(record.text) == record.value:
            return record.text
    except ValueError:
        pass
    return f"Rating: [[{_plain(record.value)}]], of several replies.\n\n{record.text}"


def _game_words(record: Verdict | Unscored | None, *, shown_first: bool) -> str:
    """The judge's words, if they say the game's winner; else only a line that says it, since any letter would count."""
    if not isinstance(record, Verdict):
        return (record and record.text) or _NOTHING_SAID
    said = verdict_letter(record.value, shown_first=shown_first)
    try:
        if verdict_letter(parse_verdict(record.text, shown_first=shown_first), shown_first=shown_first) == said:
            return record.text
    except ValueError:
        pass
    return f"{said}, of several replies."


def _prompt(request: JudgeRequest) -> str:
    """What the judge was shown; where there is no published prompt, the question and what was said to it."""
    return request.messages[-1]["content"] if request.messages else "\n\n".join((request.question, *request.answers))


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _id(question_id: str) -> int | str:
    return int(question_id) if question_id.isdecimal() else question_id
