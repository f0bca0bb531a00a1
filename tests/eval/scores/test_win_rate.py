"""Win rates through the alpaca-eval package, by hand and against its published leaderboard."""

import csv
import math

import pytest

from eval.files import read_rows
from eval.scores.win_rate import discrete, win_rate


def test_weighted_and_discrete_rates_by_hand():
    # Shares 1, .4, .5, 0: mean .475; rounded: win, loss, draw, loss -> (1 + .5) / 4.
    found = win_rate([2.0, 1.4, 1.5, 1.0])
    assert found.win_rate == pytest.approx(47.5)
    assert found.discrete_win_rate == pytest.approx(37.5)
    assert (found.wins, found.losses, found.draws, found.total) == (1, 2, 1, 4)
    spread = math.sqrt((0.525**2 + 0.075**2 + 0.025**2 + 0.475**2) / 3)
    assert found.standard_error == pytest.approx(100 * spread / 2)


def test_items_of_the_discrete_rate_add_up_to_it():
    preferences = [2.0, 1.4, 1.5, 1.0, 1.51]
    items = [discrete(value) for value in preferences]
    assert 100 * sum(items) / len(items) == pytest.approx(win_rate(preferences).discrete_win_rate)


@pytest.mark.parametrize("model", ["FuseChat-Qwen-2.5-7B-Instruct", "alpaca-7b_verbose", "NullModel"])
def test_published_annotations_give_the_published_leaderboard(data_root, model):
    folder = data_root / "alpaca_eval"
    path = folder / "annotations" / f"{model}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: it comes with the published annotations, which are optional")
    with (folder / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open() as stream:
        published = next(row for row in csv.DictReader(stream) if row[""] == model)
    found = win_rate([row["preference"] for row in read_rows(path)])
    assert found.win_rate == pytest.approx(float(published["win_rate"]), abs=1e-6)
    assert found.standard_error == pytest.approx(float(published["standard_error"]), abs=1e-6)
    assert found.discrete_win_rate == pytest.approx(float(published["discrete_win_rate"]), abs=1e-6)
    assert found.total == int(published["n_total"])
