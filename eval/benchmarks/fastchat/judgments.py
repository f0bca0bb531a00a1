"""fastchat's judgment files as replies: `<judge>_single.jsonl` and `<judge>_pair.jsonl`.

fastchat appends on every re-run and never removes, so a file may hold several judgments on one turn, some of them of
an older answer, some failed.  One of them counts: among those on this very answer the last that carries a score, one
whose whole prompt is the one we would send before any other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from eval.benchmarks.fastchat.files import NO_SCORE, JudgmentRow
from eval.errors import JudgeFailure
from eval.exchange import JudgeRequest, Reply
from eval.files import identifier, read_rows, wanted
from fusion.runtime.configure import Refusal

_ERROR = "error"  # the same of a game between two answers
_WINNERS = ("model_1", "model_2", "tie", _ERROR)
_OTHER_ANSWER = "the recorded verdict is on another answer"
_NO_VERDICT = "the file holds no verdict on this turn"

# What stands before and after an answer in the published prompts.
_BEFORE = ("'s Answer]\n", "### Assistant A:\n", "### Assistant B:\n")
_AFTER = ("\n[The End of ", "\n\n### User:", "\n\n<|The End of ")


def rows_of(path: Path) -> list[dict[str, object]]:
    """`eval.files.read_rows`, read once for all the models that one file judges.  The rows are not to be changed."""
    stat = path.stat() if path.exists() else None
    return _rows_of(path, stat and stat.st_mtime_ns, stat and stat.st_size)


@functools.lru_cache(maxsize=2)
def _rows_of(path: Path, changed: int | None, size: int | None) -> list[dict[str, object]]:
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        try:
            for name, reading in _READ_AS.items():
                if name in row:
                    row[name] = reading(row[name])
        except ValueError as error:
            raise Refusal(f"{path}, row {number}: {name} is {error}") from error
    return rows


def _turn(value: object) -> int:
    text = identifier(value)
    if not text.isdecimal():
        raise ValueError(f"{value!r}: expected 1 or 2")
    return int(text)


def _score(value: object) -> float:
    """A rating, or the mark of a failed one, which tables and JSON tools write as null or NaN."""
    if value is None:
        return NO_SCORE
    if isinstance(value, bool):  # a number to Python alone
        raise ValueError(f"{value!r}: expected a number")
    try:
        score = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{value!r}: expected a number") from None
    return score if math.isfinite(score) else NO_SCORE


def _words(value: object) -> str:
    """What was said; null where nothing was."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:60]!r}: expected text")
    return value


def _winner(value: object) -> str:
    said = _ERROR if value is None else str(value)
    if said not in _WINNERS:
        raise ValueError(f"{said[:60]!r}: expected {', '.join(_WINNERS)}")
    return said


# Fields that a round trip through a table gives back in another type, and those that must have theirs.
_READ_AS: Mapping[str, Callable[[object], object]] = {
    "question_id": identifier,
    "turn": _turn,
    "score": _score,
    **dict.fromkeys(("judgment", "g1_judgment", "g2_judgment"), _words),
    **dict.fromkeys(("user_prompt", "g1_user_prompt", "g2_user_prompt"), _words),
    **dict.fromkeys(("g1_winner", "g2_winner"), _winner),
}


def shows(prompt: str, answer: str) -> bool:
    """Whether a recorded prompt shows this whole answer; a prompt of another layout, whether its text is in there."""
    if not any(before in prompt for before in _BEFORE):
        return answer in prompt
    return any(f"{before}{answer}{after}" in prompt for before in _BEFORE for after in _AFTER)


class Judgments:
    """Single-answer judgments of one model: `named` is its name in the file, `rows` are all its rows in file order."""

    def __init__(
        self, path: Path, rows: Sequence[JudgmentRow], model: str | None, requests: Sequence[JudgeRequest]
    ) -> None:
        by_model: dict[str, dict[tuple[str, int], list[JudgmentRow]]] = {}
        for number, row in enumerate(rows, start=1):
            names = ("question_id", "turn", "model", "judgment", "score")
            question_id, turn, judged, _, _ = wanted(dict(row), *names, path=path, number=number)
            by_model.setdefault(str(judged), {}).setdefault((str(question_id), turn), []).append(row)
        named = model or (requests[0].model if requests else "")
        if named not in by_model and model is None:
            known = {name: sum(bool(_on(request, found)) for request in requests) for name, found in by_model.items()}
            named = max(known, key=known.__getitem__) if max(known.values()) > len(requests) / 2 else named
        if named not in by_model:
            raise JudgeFailure(f"{path} judges {', '.join(by_model)}, not {named}: set judge.model to one of them")
        self.named = named
        self.rows = [row for row in rows if str(row["model"]) == named]
        self._found = by_model[named]

    def reply(self, request: JudgeRequest) -> Reply:
        """The recorded judgment, when it was given on this very answer; its value is the file's score."""
        if (request.question_id, request.turn) not in self._found:
            return Reply(failure=_NO_VERDICT, missing=True)
        rows = _on(request, self._found)
        if not rows:
            return Reply(failure=_OTHER_ANSWER, missing=True)
        numbers = range(len(rows))
        last = max(
            numbers, key=lambda n: (_exact(request, rows[n].get("user_prompt", "")), rows[n]["score"] != NO_SCORE, n)
        )
        row = rows[last]
        return Reply(text=str(row["judgment"]), value=float(row["score"]))


class PairJudgments:
    """Judgments on pairs of models; `model` is the requesting model's name in the file, None: its own."""

    def __init__(self, path: Path, rows: Sequence[JudgmentRow], model: str | None) -> None:
        self._path, self._model = path, model
        self._found: dict[tuple[str, int, frozenset[str]], list[JudgmentRow]] = {}
        for number, row in enumerate(rows, start=1):
            names = (
                "question_id",
                "turn",
                "model_1",
                "model_2",
                "g1_winner",
                "g2_winner",
                "g1_judgment",
                "g2_judgment",
            )
            question_id, turn, first, second, *_ = wanted(dict(row), *names, path=path, number=number)
            self._found.setdefault((str(question_id), turn, frozenset((str(first), str(second)))), []).append(row)
        self._pairs = {pair for _, _, pair in self._found}

    def rows(self, model: str, opponents: Iterable[str]) -> list[JudgmentRow]:
        """Every row on a pair of `model` and one of the opponents."""
        pairs = {frozenset((model, opponent)) for opponent in opponents}
        return [row for (_, _, pair), rows in self._found.items() if pair in pairs for row in rows]

    def reply(self, request: JudgeRequest) -> Reply:
        """The recorded judgment of one game, when it was given on these very answers; its value is the preference for
        the requesting model: 2, 1.5 or 1.  Raises JudgeFailure when the file never compares these two models.
        """
        own = self._model or request.model
        pair = frozenset((own, request.opponent))
        if pair not in self._pairs:
            held = "; ".join(" and ".join(sorted(found)) for found in list(self._pairs)[:5])
            raise JudgeFailure(
                f"{self._path} compares {held}, not {own} and {request.opponent}: name the answers as the file does, or"
                " set judge.model"
            )
        rows = self._found.get((request.question_id, request.turn, pair), [])
        if not rows:
            return Reply(failure=_NO_VERDICT, missing=True)
        games = [(row, "g1" if (row["model_1"] == own) == (request.order == 1) else "g2") for row in rows]
        shown = []
        for number, (row, game) in enumerate(games):
            prompt = row.get(f"{game}_user_prompt", "")
            if all(shows(prompt, answer) for answer in request.answers):
                scored = _ERROR not in (row["g1_winner"], row["g2_winner"])
                shown.append((_exact(request, prompt), scored, number))
        if not shown:
            return Reply(failure=_OTHER_ANSWER, missing=True)
        row, game = games[max(shown)[-1]]
        return Reply(text=str(row[f"{game}_judgment"]), value=_preference(row, row[f"{game}_winner"], own))


def _preference(row: JudgmentRow, winner: str, own: str) -> float:
    if winner == _ERROR:
        return NO_SCORE
    if winner == "tie":
        return 1.5
    return 2.0 if row[winner] == own else 1.0


def _on(request: JudgeRequest, found: Mapping[tuple[str, int], Sequence[JudgmentRow]]) -> list[JudgmentRow]:
    """The judgments of this turn whose prompt shows the very answer that is asked about."""
    rows = found.get((request.question_id, request.turn), ())
    return [row for row in rows if shows(row.get("user_prompt", ""), request.answers[0])]


def _exact(request: JudgeRequest, prompt: str) -> bool:
    return bool(request.messages) and request.messages[-1]["content"] == prompt
