"""What raters said about the same answers, read from any of the usual files.

    votes = read_votes(Path("model_judgment/gpt-4_single.jsonl"), questions={})
    votes.by_item["81", 1, ("vicuna-7b-v1.3",)]     # [8.0]

Read are our verdicts.jsonl, fastchat's judgments (single and pair), alpaca-eval's annotations, and human votes in the
form of lmsys/mt_bench_human_judgments.  A rater may have several votes on one item; what was not scored is no vote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eval.files import read_rows, wanted
from eval.records import Verdict, read_verdicts
from fusion.runtime.configure import Refusal

# Question, turn, and the models that were rated or compared, in the order of their names.
Item = tuple[str, int, tuple[str, ...]]
VoteKind = Literal["rating", "preference"]
TIE = 1.5


@dataclass(kw_only=True)
class Votes:
    """One rater.  A preference is 1 where the first of the item's models is better, 2 for the second, 1.5 for a tie.

    `nameless`: the file does not say whose answers were rated; such items name the opponents alone, and a preference of
    2 is for the nameless model.  `replaced` counts votes that were on another answer than the item's last one.
    """

    rater: str
    kind: VoteKind
    nameless: bool = False
    by_item: dict[Item, list[float]] = field(default_factory=dict)
    replaced: int = 0
    shown: dict[Item, str] = field(default_factory=dict)

    @property
    def models(self) -> set[str]:
        """Every model that is named."""
        return {model for _, _, models in self.by_item for model in models}

    def add(self, question: str, turn: int, models: tuple[str, ...], value: float, *, shown: str = "") -> None:
        """One vote; a preference between models in another order than their names' is turned round.

        `shown` is what the rater saw, where the file keeps it: a file that was appended to after the answers changed
        holds votes on both, and the later answers' count.
        """
        if len(models) == 2 and models[0] > models[1]:
            models, value = models[::-1], 3 - value
        item = question, turn, models
        if self.shown.setdefault(item, shown) != shown:
            self.replaced += len(self.by_item.pop(item))
            self.shown[item] = shown
        self.by_item.setdefault(item, []).append(value)

    def of(self, model: str) -> Votes:
        """The votes on one model as a nameless rater has them: items name the opponents alone, 2 is for the model."""
        if self.nameless:
            return self
        found = Votes(rater=self.rater, kind=self.kind, nameless=True, replaced=self.replaced)
        for (question, turn, models), values in self.by_item.items():
            if model in models:
                others = tuple(other for other in models if other != model)
                turned = self.kind == "preference" and models[0] == model
                for value in values:
                    found.add(question, turn, others, 3 - value if turned else value)
        return found


def read_votes(path: Path, *, questions: Mapping[str, str]) -> Votes:
    """The votes in a file, plain or `.gz`.  `questions` gives the number of an instruction where annotations are to be
    compared with verdicts, which know questions by number.

    Raises Refusal for a file in none of the forms, naming the row.
    """
    rows = read_rows(path)
    if "type" in rows[0]:
        return _ours(path)
    readers: dict[str, tuple[VoteKind, Callable[[Votes, Mapping[str, object], _Row], None]]] = {
        "preference": ("preference", lambda votes, row, want: _annotation(votes, want, questions)),
        "winner": ("preference", lambda votes, row, want: _human(votes, want)),
        "g1_winner": ("preference", lambda votes, row, want: _pair(votes, want)),
        "score": ("rating", lambda votes, row, want: _single(votes, want)),
    }
    found = next((mark for mark in readers if mark in rows[0]), None)
    if found is None:
        raise Refusal(
            f"{path} is none of: verdicts.jsonl, fastchat's judgments, alpaca-eval's annotations, human votes with"
            f" model_a, model_b and winner; its first row has {', '.join(map(str, rows[0]))}"
        )
    kind, read = readers[found]
    votes = Votes(rater=path.name, kind=kind)
    for number, row in enumerate(rows, start=1):
        read(votes, row, _Row(path, number, row))
    if not votes.by_item:
        raise Refusal(f"{path} has no scored row")
    return votes


class _Row:
    """A row that refuses, with file and number, what it does not have."""

    def __init__(self, path: Path, number: int, row: dict[str, object]) -> None:
        self.path, self.number, self.row = path, number, row

    def __call__(self, *names: str) -> Any:
        return wanted(self.row, *names, path=self.path, number=self.number)


def _ours(path: Path) -> Votes:
    records = [record for record in read_verdicts(path) if isinstance(record, Verdict)]
    if not records:
        raise Refusal(f"{path} has no scored verdict")
    # Both scales begin at 1; no judge of ratings gives nothing above 2.
    kind: VoteKind = "preference" if max(record.value for record in records) <= 2 else "rating"
    judge = next((record.judge for record in records if record.judge != "none"), "none")
    votes = Votes(rater=f"{path.parent.name}/{path.name} ({judge})", kind=kind, nameless=True)
    for record in records:
        others = (record.opponent,) if record.opponent else ()
        votes.add(record.question_id, record.turn, others, record.value)
    return votes


def _single(votes: Votes, want: _Row) -> None:
    question, turn, model, score = want("question_id", "turn", "model", "score")
    if score != -1:  # fastchat's mark for a judgment it could not read
        shown = str(want.row.get("user_prompt", ""))
        votes.add(str(question), int(turn), (str(model),), float(score), shown=shown)


def _pair(votes: Votes, want: _Row) -> None:
    names = ("question_id", "turn", "model_1", "model_2", "g1_winner", "g2_winner")
    question, turn, first, second, one, two = want(*names)
    if "error" not in (one, two):
        value = {"model_1": 1.0, "model_2": 2.0}.get(one, TIE) if one == two else TIE
        shown = str(want.row.get("g1_user_prompt", ""))
        votes.add(str(question), int(turn), (str(first), str(second)), value, shown=shown)


def _human(votes: Votes, want: _Row) -> None:
    question, turn, first, second, winner = want("question_id", "turn", "model_a", "model_b", "winner")
    value = {"model_a": 1.0, "model_b": 2.0}.get(winner, TIE)
    votes.add(str(question), int(turn), (str(first), str(second)), value)


def _annotation(votes: Votes, want: _Row, questions: Mapping[str, str]) -> None:
    instruction, preference = want("instruction", "preference")
    if preference is None or preference != preference:
        return
    first, second = str(want.row.get("generator_1", "baseline")), str(want.row.get("generator_2", "model"))
    value = float(preference) or TIE  # 0 is the package's older way to write a draw
    votes.add(questions.get(instruction, str(instruction)), 1, (first, second), value)
