"""Two games of one pair of answers, each shown first once: their outcome, and what they say about the judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.benchmarks.fastchat.verdict_letter import TIE
from eval.records import Question, Unscored, Verdict
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow, mean_row

# Game 1 shows the model first, game 2 its opponent.
ORDERS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class GamePair:
    """The two games of one turn against one opponent: the model's preference in each, or why there is none."""

    question: Question
    turn: int
    opponent: str
    games: tuple[Verdict | Unscored | None, ...]

    @property
    def signs(self) -> tuple[int, int] | None:
        """Per game 1 where the model wins, 0 for a tie, -1 where the opponent wins; None when one cannot be read."""
        values = [game.value for game in self.games if isinstance(game, Verdict)]
        if len(values) < len(ORDERS):
            return None
        first, second = ((value > TIE) - (value < TIE) for value in values)
        return first, second

    @property
    def outcome(self) -> float | None:
        """1 for a win, 0 for a loss, 0.5 for a tie or games that disagree; None when a game cannot be read."""
        if self.signs is None:
            return None
        first, second = self.signs
        return 0.5 if first != second else 0.5 + first / 2

    @property
    def reason(self) -> str:
        """Why there is no outcome."""
        missing = next(game for game in self.games if not isinstance(game, Verdict))
        return "not judged" if missing is None else missing.reason


def pairwise_rows(name: str, pairs: Sequence[GamePair], uncertainty: Uncertainty) -> list[MetricRow]:
    """One slice's rows.

    `pairwise_win_rate`: (wins + ties / 2) / pairs in percent, fastchat's `win_rate_adjusted`.  `pairwise_wins`, `_ties`
    and `_losses` count pairs; games that disagree are ties.  `position_consistency`: percent of pairs whose games
    agree.  `first_position_bias`: percent of games that A wins less percent that B wins; 0 for a judge without bias,
    100 for one that always prefers what it sees first.
    """
    signs = [pair.signs for pair in pairs]
    scored = [found for found in signs if found is not None]
    questions = [pair.question.id for pair in pairs]

    def mean(metric: str, value: Callable[[int, int], float], *, ends: tuple[float, float] = (0.0, 100.0)) -> MetricRow:
        values = [None if found is None else 100 * value(*found) for found in signs]
        return mean_row("mt_bench_pairwise", metric, name, values, questions, uncertainty, ends=ends)

    def count(metric: str, holds: Callable[[int, int], bool]) -> MetricRow:
        return MetricRow(
            benchmark="mt_bench_pairwise",
            metric=metric,
            slice=name,
            value=sum(holds(*found) for found in scored),
            n=len(scored),
            unscored=len(signs) - len(scored),
        )

    return [
        mean("pairwise_win_rate", lambda first, second: 0.5 + first / 2 if first == second else 0.5),
        count("pairwise_wins", lambda first, second: first == second == 1),
        count("pairwise_ties", lambda first, second: first != second or first == 0),
        count("pairwise_losses", lambda first, second: first == second == -1),
        mean("position_consistency", lambda first, second: first == second),
        # The model is A in the first game and B in the second.
        mean("first_position_bias", lambda first, second: (first - second) / 2, ends=(-100.0, 100.0)),
    ]
