"""Win rates of pairwise preferences, by the alpaca-eval package's own rules.

A preference lies in [1, 2]: 1 the baseline is better, 2 the model is better, 1.5 a draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.errors import HarnessFailure
from eval.scores.alpaca_package import alpaca_module


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """In percent, as the package's leaderboard has them; `wins + losses + draws` make the `total`."""

    win_rate: float
    standard_error: float
    discrete_win_rate: float
    wins: int
    losses: int
    draws: int
    total: int


def win_rate(preferences: Sequence[float]) -> WinRate:
    """The package's `get_winrate` over scored preferences.

    Win rate is the mean preference less one; its standard error is over items; the discrete rate rounds each
    preference first and counts a draw as half.  Raises HarnessFailure when the package left a preference out.
    """
    found = alpaca_module("metrics").get_winrate([{"preference": float(value)} for value in preferences])
    if found["n_total"] != len(preferences):
        raise HarnessFailure(f"alpaca-eval counted {found['n_total']} of {len(preferences)} preferences")
    return WinRate(
        win_rate=float(found["win_rate"]),
        standard_error=float(found["standard_error"]),
        discrete_win_rate=float(found["discrete_win_rate"]),
        wins=int(found["n_wins"]),
        losses=int(found["n_wins_base"]),
        draws=int(found["n_draws"]),
        total=int(found["n_total"]),
    )


def discrete(preference: float) -> float:
    """One item of the discrete win rate: 1 won, 0 lost, 0.5 a draw."""
    return 0.5 if preference == 1.5 else float(preference > 1.5)
