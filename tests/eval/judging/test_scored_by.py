"""The judge's own noise stands beside the metric that is the mean of its verdicts, under that metric's name."""

import pytest

from eval.benchmarks import metric_of
from eval.judging.scored_by import noise_rows
from eval.records import Verdict
from eval.scores.intervals import Uncertainty


@pytest.mark.parametrize(
    ("benchmark", "metric", "unit"),
    [("mt_bench", "rating", 1), ("mt_bench_pairwise", "pairwise_win_rate", 100), ("alpaca_eval", "win_rate", 100)],
)
def test_repeated_verdicts_give_the_noise_of_the_metric_that_they_make(benchmark: str, metric: str, unit: int) -> None:
    values = {"a": (1.0, 2.0), "b": (1.5, 1.5)}
    records = [
        Verdict(question_id=question, turn=1, value=value, text="", judge="j", repeat=repeat)
        for question, pair in values.items()
        for repeat, value in enumerate(pair)
    ]
    spread, share = noise_rows(benchmark, records, Uncertainty())
    assert (spread.metric, share.metric) == (f"{metric}_judge_sd", f"{metric}_judge_share")
    # Squares about the items' means, 0.25 + 0.25 and 0, over 4 verdicts less 2 items.
    assert spread.value == pytest.approx(unit * (0.5 / 2) ** 0.5)
    assert {metric_of(benchmark, row.metric).sense for row in (spread, share)} == {0}  # neither more nor less is better


def test_verdicts_asked_once_say_nothing_of_the_judge() -> None:
    assert (
        noise_rows("mt_bench", [Verdict(question_id="a", turn=1, value=3.0, text="", judge="j")], Uncertainty()) == []
    )
