"""Several judges whose verdicts become one: by mean or majority, after one look or after reading each other.

Two layers are the wider-and-deeper review of Zhang et al. (arXiv 2308.01862): in the second, each member sees what all
of them said in the first and judges again, and the mean runs over members and layers.  Departures from their code: the
members are different judges instead of one judge's angles, each sees all others instead of two neighbours, and what
could not be read is left out instead of counting as 0.

Everything here is arithmetic on verdicts that were given before; `eval.judging.judging` asks for them and keeps them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.exchange import JudgeRequest
from eval.judges.forms import FORMS
from eval.judges.protocol import Board, Member
from eval.records import Unscored, Verdict


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Judges by name, and how their verdicts become one."""

    members: Mapping[str, Member]
    # Of the verdicts in all layers; `majority`: the median of ratings, the side with more votes.
    rule: Literal["mean", "majority"] = "mean"
    layers: Literal[1, 2] = 1  # 2: each member judges again after reading what all of them said first
    quorum: int | None = None  # the fewest members whose verdict can be read; None: more than half of them

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError(f"a panel of {len(self.members)}: expected two members or more")
        if self.quorum is not None and not 1 <= self.quorum <= len(self.members):
            raise ValueError(f"quorum is {self.quorum}: expected 1 to {len(self.members)}, the number of members")
        if self.layers == 2:
            for name, member in self.members.items():
                if not member.is_model:
                    raise ValueError(f"member {name} cannot read reviews: two layers need judge models, set layers: 1")

    @property
    def replayed(self) -> None:
        """A panel replays no file of its own."""

    @property
    def board(self) -> Board:
        return self

    @property
    def enough(self) -> int:
        """The fewest members whose verdict must be readable."""
        return self.quorum or len(self.members) // 2 + 1

    @property
    def label(self) -> str:
        rounds = " after review" if self.layers == 2 else ""
        return f"panel:{self.rule} of {', '.join(self.members)}{rounds}"

    def aggregate(
        self, request: JudgeRequest, layers: Sequence[Mapping[str, Verdict | Unscored]]
    ) -> Verdict | Unscored:
        """The panel's verdict on one request from its members' verdicts, layer by layer; what has no value is left out.

        `mean`: over members and layers.  `majority` of ratings: their median; of preferences: the side with more votes,
        a tie (1.5) where votes are equal.  Unscored when fewer members than the quorum have a value in the last layer.
        """
        records = [(name, record) for layer in layers for name, record in layer.items()]
        scored = [record.value for _, record in records if isinstance(record, Verdict)]
        voters = sum(isinstance(record, Verdict) for record in layers[-1].values())
        said = ", ".join(
            f"{name} {record.value:g}" if isinstance(record, Verdict) else f"{name} unscored ({record.reason})"
            for name, record in records
        )
        if voters < self.enough:
            again = any(isinstance(record, Unscored) and record.kind == "no_reply" for _, record in records)
            return Unscored(
                question_id=request.question_id,
                turn=request.turn,
                reason=f"{voters} of {len(self.members)} members scored, {self.enough} are needed: {said}",
                judge=self.label,
                kind="no_reply" if again else "unreadable",
                opponent=request.opponent,
                order=request.order,
            )
        if self.rule == "mean":
            value = statistics.fmean(scored)
        else:
            value = FORMS[request.form].majority(scored)
        return Verdict(
            question_id=request.question_id,
            turn=request.turn,
            value=value,
            judge=self.label,
            text=said,
            opponent=request.opponent,
            order=request.order,
        )
