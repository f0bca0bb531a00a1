"""AlpacaEval's published annotations, replayed as `python -m eval judge=recorded` does, beside its leaderboard.

Win rates, standard errors, counts and lengths are exact.  The length-controlled rate depends on how scikit-learn deals
ties to folds (`eval.scores.fold_order`), so it has two rows: as installed, and in the named order that comes closest.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.benchmarks import AlpacaEval
from eval.benchmarks.alpaca_eval import LoadedAlpacaEval
from eval.exchange import JudgeRequest, Reply
from eval.judges.recorded import Recorded
from eval.records import Answer, Verdict, Verdicts
from eval.scores.fold_order import FOLD_ORDERS
from eval.scores.intervals import Uncertainty
from eval.scores.length_control import LengthControl
from eval.scores.metric_row import MetricRow
from eval.selfcheck.row import CheckRow

EXACT = 1e-6
# What the order of folds moves at most, over the 57 published models that were checked: 0.152 points.
OF_ANY_ORDER = 0.16
_LEADERBOARD = "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
_RATES = ("win_rate", "standard_error", "discrete_win_rate")
_CONTROLLED = "length_controlled_win_rate"
_ERROR = "length_controlled_standard_error"


def rows(data: Path) -> list[CheckRow]:
    """Every model of `alpaca_eval/annotations` that the leaderboard beside it has.  Raises Refusal for bad files."""
    folder = data / "alpaca_eval"
    files = sorted(path for path in (folder / "annotations").glob("*.json*") if path.name.endswith((".json", ".gz")))
    leaderboard = folder / _LEADERBOARD
    if not files or not leaderboard.exists():
        return []
    with leaderboard.open(encoding="utf-8", newline="") as stream:
        published = {row[""]: row for row in csv.DictReader(stream)}
    gamed = "alpaca_eval/df_gamed.csv"
    settings = AlpacaEval(
        questions="alpaca_eval/alpaca_eval_gpt4_baseline.json", gamed=gamed if (data / gamed).exists() else None
    )
    loaded = settings.load(settings.files(data))
    found = []
    for path in files:
        model = path.name.removesuffix(".gz").removesuffix(".json")
        if model in published:
            found += _checked(model, published[model], replay(loaded, path))
    return found


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A published annotations file, replayed.  `kept` rows hold the judge's token probabilities; from so many of them
    (`read_alike`) we read the preference that is recorded.
    """

    loaded: LoadedAlpacaEval
    answers: Sequence[Answer]
    verdicts: Verdicts
    kept: int
    read_alike: int

    def metrics(self, how: LengthControl, uncertainty: Uncertainty) -> Mapping[str, MetricRow]:
        """The metrics by name, for a way of length control."""
        as_asked = replace(self.loaded, settings=replace(self.loaded.settings, length_control=how))
        return {row.metric: row for row in as_asked.metrics(self.verdicts, self.answers, uncertainty)}


def replay(loaded: LoadedAlpacaEval, path: Path) -> Replayed:
    """Replay a file as judge=recorded does, and read its kept replies as a judge's are read."""
    answers = loaded.read_answers(path)
    judge = Recorded(file=str(path))
    plan = loaded.plan(answers)
    verdicts = list(plan.settled)
    kept = []

    def hand_over(request: JudgeRequest, reply: Reply) -> None:
        recorded = loaded.read(request, reply, judge=judge.label)
        verdicts.append(recorded)
        if reply.top_logprobs and isinstance(recorded, Verdict):
            anew = loaded.read(request, replace(reply, value=None), judge="the one recorded")
            kept.append(isinstance(anew, Verdict) and abs(anew.value - recorded.value) <= EXACT)

    judge.judge(plan.requests, hand_over)
    return Replayed(loaded=loaded, answers=answers, verdicts=verdicts, kept=len(kept), read_alike=sum(kept))


def _checked(model: str, published: Mapping[str, str], replayed: Replayed) -> list[CheckRow]:
    installed = replayed.metrics("package", Uncertainty())

    def row(quantity: str, ours: float | None, stated: str, tolerance: float, note: str = "") -> CheckRow:
        return CheckRow(
            benchmark="alpaca_eval",
            model=model,
            quantity=quantity,
            ours=ours,
            published=float(stated) if stated else None,
            tolerance=tolerance,
            note=note,
        )

    rows = [row(name, installed[name].value, published[name], EXACT) for name in _RATES]
    total = installed["win_rate"].n
    rows.append(row("n_total", float(total), published["n_total"], 0))
    controlled_rate = float(published["length_controlled_winrate"])
    by_order = {order: replayed.metrics(order, Uncertainty()) for order in FOLD_ORDERS}  # type: ignore[arg-type]
    off = {order: _distance(found[_CONTROLLED].value, controlled_rate) for order, found in by_order.items()}
    best = min(off, key=off.__getitem__)
    matching = " and ".join(order for order, distance in off.items() if distance <= EXACT) or "neither"
    controlled = installed[_CONTROLLED]
    rows.append(
        row(
            _CONTROLLED,
            controlled.value,
            published["length_controlled_winrate"],
            OF_ANY_ORDER,
            "; ".join(filter(None, ("folds as installed", controlled.variant, controlled.reason))),
        )
    )
    rows.append(
        row(
            f"{_CONTROLLED}, named folds",
            by_order[best][_CONTROLLED].value,
            published["length_controlled_winrate"],
            EXACT,
            f"folds {matching}",
        )
    )
    refit = installed.get(f"{_ERROR}_refit")
    if published["lc_standard_error"]:
        error = by_order[best].get(_ERROR)
        note = "" if refit is None or refit.value is None else f"with refit {refit.value:.2f}"
        rows.append(row(_ERROR, error.value if error else None, published["lc_standard_error"], EXACT, note))
    if replayed.kept:
        stated = str(replayed.kept)
        rows.append(row("preferences read", float(replayed.read_alike), stated, 0, "from recorded token probabilities"))
    return rows


def _distance(ours: float | None, stated: float) -> float:
    return float("inf") if ours is None else abs(ours - stated)
