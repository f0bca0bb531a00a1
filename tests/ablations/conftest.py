"""What tests of finished cells share."""

from collections.abc import Callable

import pytest

from eval.records import ItemScore
from eval.scored import ScoredModel
from eval.scores.intervals import Bootstrap, mean_interval
from eval.scores.metric_row import MetricRow


@pytest.fixture(scope="session")
def rated() -> Callable[..., ScoredModel]:
    """Makes a model of one rating a question, some of them unscored, and of a second turn that nobody judged."""

    def made(model: str, group: str, ratings: list[float], *, unscored: int) -> ScoredModel:
        questions = [str(number) for number in range(len(ratings))]
        items = tuple(
            ItemScore(benchmark="mt_bench", metric="rating", question_id=q, turn=1, category="c", value=value)
            for q, value in zip(questions, ratings, strict=True)
        )
        found = mean_interval(ratings, questions, Bootstrap(resamples=50, seed=0))
        row = {"benchmark": "mt_bench", "metric": "rating"}
        rows = (
            MetricRow(
                **row, slice="all", value=found.value, low=found.low, high=found.high, n=found.n, unscored=unscored
            ),
            MetricRow(
                **row, slice="turn2", value=None, low=None, high=None, n=0, unscored=4, reason="the judge was silent"
            ),
        )
        return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=rows, items=items)

    return made
