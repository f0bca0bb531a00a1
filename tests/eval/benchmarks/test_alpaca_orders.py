"""AlpacaEval in both orders of showing, and on a part of its instructions."""

import json
import math

import pytest

from eval.benchmarks import AlpacaEval
from eval.benchmarks.protocol import BenchmarkFiles
from eval.judges import Recorded, Reply
from eval.judging.collect import collect_verdicts
from eval.records import Answer, Unscored
from eval.scores.intervals import Uncertainty
from fusion.runtime.configure import Refusal

ROWS = [
    {"instruction": f"say {i}", "output": f"baseline {i}", "generator": "base", "dataset": "odd" if i % 2 else "even"}
    for i in range(6)
]


def load(tmp_path, **settings):
    path = tmp_path / "instructions.json"
    path.write_text(json.dumps(ROWS))
    return AlpacaEval(**settings).load(BenchmarkFiles(questions=path))


def answers(*texts):
    return [Answer(question_id=str(i), model="m", turns=(text,)) for i, text in enumerate(texts)]


def rows_of(benchmark, verdicts, said):
    return {row.metric: row for row in benchmark.metrics(verdicts, said, Uncertainty())}


class FirstShown:
    """A judge that prefers whatever it is shown first, by `share`."""

    label = "first"

    def __init__(self, share, silent=()):
        self.share, self.silent = share, silent

    def judge(self, requests, hand_over):
        for request in requests:
            shown = self.share if request.switched else 1 - self.share  # of the model's answer
            failed = (request.question_id, request.order) in self.silent
            hand_over(request, Reply(failure="refused", rejected=True) if failed else Reply(value=1 + shown))


def judged(benchmark, said, judge, tmp_path):
    return collect_verdicts(
        benchmark=benchmark, plan=benchmark.plan(said), judge=judge, journal=tmp_path / "verdicts.jsonl"
    )


def test_each_pair_is_shown_in_both_orders(tmp_path):
    benchmark = load(tmp_path, orders="both")
    requests = benchmark.plan(answers(*(f"own {i}" for i in range(6)))).requests
    assert [(r.question_id, r.order, r.switched) for r in requests[:2]] == [("0", 1, True), ("0", 2, False)]
    assert requests[0].answers == requests[1].answers[::-1] == ("own 0", "baseline 0")
    assert len({request.place for request in requests}) == len(requests) == 12


def test_a_judge_of_places_gives_no_preference_but_a_bias(tmp_path):
    benchmark = load(tmp_path, orders="both")
    said = answers(*(f"own {i}" for i in range(5)), "baseline 5")
    rows = rows_of(benchmark, judged(benchmark, said, FirstShown(0.8), tmp_path), said)
    # .8 where shown first, .2 where second: mean .5 whoever is better; the first is preferred by .8 - .5.
    assert rows["win_rate"].value == pytest.approx(50.0)
    bias = rows["position_bias"]
    assert bias.value == pytest.approx(30.0)
    # The same on all five instructions, .8 of the way from -50 to 50: Wilson's four of five.
    z = 1.959964
    reach = z * math.sqrt(0.8 * 0.2 / 5 + (z / 10) ** 2)
    ends = [100 * ((0.8 + z * z / 10 + side * reach) / (1 + z * z / 5) - 0.5) for side in (-1, 1)]
    assert (bias.low, bias.high) == pytest.approx(ends, abs=1e-4)
    assert (bias.n, bias.unscored) == (5, 0)  # equal outputs are shown to nobody


def test_a_pair_with_one_silent_order_is_unscored_and_says_why(tmp_path):
    benchmark = load(tmp_path, orders="both")
    said = answers(*(f"own {i}" for i in range(6)))
    verdicts = judged(benchmark, said, FirstShown(0.6, silent={("2", 2)}), tmp_path)
    rows = rows_of(benchmark, verdicts, said)
    assert (rows["win_rate"].n, rows["win_rate"].unscored) == (5, 1)
    assert (rows["position_bias"].n, rows["position_bias"].unscored) == (5, 1)
    (item,) = [i for i in benchmark.item_scores(verdicts, said) if (i.metric, i.question_id) == ("win_rate", "2")]
    assert (item.value, item.reason) == (None, "refused")


def test_the_published_order_has_no_position_bias_row(tmp_path):
    benchmark = load(tmp_path)
    said = answers(*(f"own {i}" for i in range(6)))
    assert "position_bias" not in rows_of(benchmark, judged(benchmark, said, FirstShown(0.6), tmp_path), said)


def test_a_recorded_preference_is_not_taken_for_both_orders(tmp_path):
    benchmark = load(tmp_path, orders="both")
    said = answers("own 0")
    recorded = tmp_path / "annotations.json"
    pair = {"instruction": "say 0", "output_1": "baseline 0", "output_2": "own 0", "preference": 1.9}
    recorded.write_text(json.dumps([pair]))
    verdicts = judged(benchmark, said, Recorded(file=str(recorded)), tmp_path)
    assert {v.reason for v in verdicts if v.question_id == "0"} == {
        "a recorded preference is on one order of showing only: set orders=published"
    }


def test_a_part_drawn_here_has_no_length_controlled_rate(tmp_path):
    said = answers(*(f"own {'x' * i}" for i in range(6)))
    for settings, drawn in (
        ({"limit": 4}, ["0", "1", "2", "3"]),
        ({"only": ("odd",)}, ["1", "3", "5"]),
        ({"only": ("odd",), "limit": 2}, ["1", "3"]),
    ):
        benchmark = load(tmp_path, **settings)
        assert [question.id for question in benchmark.questions] == drawn
        own = [answer for answer in said if answer.question_id in drawn]
        folder = tmp_path / "-".join(drawn)
        folder.mkdir()
        rows = rows_of(benchmark, judged(benchmark, own, FirstShown(0.6), folder), own)
        assert rows["win_rate"].n == len(drawn)
        refused = rows["length_controlled_win_rate"]
        assert refused.value is None
        assert refused.reason.startswith(f"{len(drawn)} of 6 instructions were drawn here")


def test_a_limit_that_leaves_everything_draws_nothing(tmp_path):
    benchmark = load(tmp_path, limit=6)
    # One shorter and one longer than "baseline i", so that lengths overlap.
    said = answers(*(f"own {'x' * count}" for count in (5, 7, 6, 6, 6, 6)))
    row = rows_of(benchmark, judged(benchmark, said, FirstShown(0.6), tmp_path), said)["length_controlled_win_rate"]
    assert row.value is not None


def test_answers_to_instructions_that_were_not_drawn_are_left(tmp_path):
    outputs = tmp_path / "outputs.json"
    outputs.write_text(json.dumps([{"instruction": f"say {i}", "output": "x", "generator": "m"} for i in range(6)]))
    assert [answer.question_id for answer in load(tmp_path, only=("even",)).read_answers(outputs)] == ["0", "2", "4"]


def test_a_subset_the_file_does_not_have_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(Refusal, match=r"only=evn: .* has no such subset: .*even"):
        load(tmp_path, only=("evn",))
    with pytest.raises(Refusal, match="leaves no instruction"):
        load(tmp_path, only=())
    with pytest.raises(ValueError, match="limit is 0"):
        AlpacaEval(limit=0)


def test_a_row_without_a_preference_keeps_its_place_in_a_recorded_file(tmp_path):
    benchmark = load(tmp_path)
    said = answers(*(f"own {i}" for i in range(6)))
    rows = [
        {"instruction": f"say {i}", "output_1": f"baseline {i}", "output_2": f"own {i}", "preference": 1.5 + i / 10}
        for i in range(5)
    ]
    rows[2]["preference"] = None
    recorded = tmp_path / "annotations.json"
    recorded.write_text(json.dumps(rows))
    verdicts = judged(benchmark, said, Recorded(file=str(recorded)), tmp_path)
    kinds = {verdict.question_id: verdict.kind for verdict in verdicts if isinstance(verdict, Unscored)}
    assert kinds == {"2": "unreadable", "5": "not_recorded"}
    assert rows_of(benchmark, verdicts, said)["win_rate"].value == pytest.approx(100 * (0.5 + 0.6 + 0.8 + 0.9) / 4)
