"""What belongs to a part is asked of the part: metrics, reply forms, judges and ensembles say what they are."""

import math

import pytest

from eval.benchmarks import BENCHMARKS, AlpacaEval, MTBench, MTBenchPairwise, judged, metric_of
from eval.benchmarks.fastchat.single_rating import parse_rating
from eval.benchmarks.fastchat.verdict_letter import LOSS, TIE, WIN, parse_verdict
from eval.benchmarks.mt_bench_pairwise import LoadedMTBenchPairwise
from eval.exchange import JudgeRequest
from eval.judges import JUDGES, Panel, Reference
from eval.judges.completions import said_in_words
from eval.judges.forms import FORMS
from eval.records import Answer
from eval.scores.intervals import Uncertainty
from fusion.runtime.fingerprint import module_digests

JUDGED = [name for name in BENCHMARKS if judged(name)]


def stand_ins():
    single = MTBench(questions="q").stand_in()
    other = [Answer(question_id=question.id, model="other", turns=("a", "b")) for question in single.questions]
    pairs = LoadedMTBenchPairwise(settings=MTBenchPairwise(), single=single)
    return [single, pairs.against({"other": other}), AlpacaEval(questions="q", orders="both").stand_in()]


@pytest.mark.parametrize("loaded", stand_ins(), ids=lambda one: one.name)
def test_a_benchmark_declares_every_metric_that_it_reports(loaded):
    declared = {metric.name for metric in loaded.settings.metrics}
    uncertainty = Uncertainty()
    assert {row.metric for row in loaded.metrics([], [], uncertainty)} <= declared
    items = {item.metric for item in loaded.item_scores([], [])}
    assert loaded.settings.primary.name in items <= declared


@pytest.mark.parametrize("name", JUDGED)
def test_the_primary_metric_is_declared_ranked_shown_and_drawn(name):
    found = judged(name)
    assert found.primary in found.metrics
    assert found.primary.sense == 1 and found.primary.shown and found.primary.title


def test_an_lm_eval_metric_may_name_its_filter_and_less_perplexity_is_better():
    assert metric_of("sums", "exact_match,strict-match").sense == 1
    assert metric_of("sums", "word_perplexity,none").sense == -1
    assert metric_of("sums", "acc").scale == 1 and metric_of("alpaca_eval", "win_rate").scale == 100


def request(form: str) -> JudgeRequest:
    return JudgeRequest(
        benchmark="b", question_id="1", turn=1, model="m", form=form, question="q", answers=("a", "b"), reference=None,
        messages=(),
    )  # fmt: skip


def test_what_a_form_says_is_read_back_by_the_benchmarks_parsers_in_words_and_from_json():
    assert parse_rating(FORMS["rating"].say([7]).text) == 7
    assert parse_rating(said_in_words('{"explanation": "[[3]]", "rating": 7}', request("rating")).text) == 7
    letters = FORMS["verdict_letter"]
    for ratings, value in (([9, 2], WIN), ([2, 9], LOSS), ([5, 5], TIE)):
        assert parse_verdict(letters.say(ratings).text, shown_first=True) == value
    token = FORMS["preference_token"].say([5, 5])
    assert {name: math.exp(chance) for name, chance in token.top_logprobs} == pytest.approx({"m": 0.5, "M": 0.5})
    unread = said_in_words('{"verdict": "neither"}', request("ranked_models"))
    assert unread.text == '{"verdict": "neither"}'


def test_most_of_several_ratings_are_their_median_and_of_preferences_the_side_with_more_votes():
    assert FORMS["rating"].majority([1, 9, 8]) == 8
    for form in ("verdict_letter", "preference_token", "ranked_models"):
        assert FORMS[form].majority([2, 2, 1]) == 2
        assert FORMS[form].majority([2, 1]) == TIE


def test_one_more_reply_form_asks_no_paid_judge_again():
    followed = module_digests(
        ("eval.judges.completions", "eval.benchmarks.fastchat.single_rating", "eval.judges.forms.rating")
    )
    assert not [name for name in followed if "ranked_models" in name]


def test_every_judge_but_a_panel_says_what_it_is_and_a_panel_who_sits_in_it():
    panel = Panel(members={"a": Reference(), "b": Reference(credit="exact")})
    assert panel.board is panel and Reference().board is None
    assert [name for name, kind in JUDGES.items() if getattr(kind, "is_model", None)] == ["openai", "served"]
    config, inputs = Reference(credit="exact").identity(lambda directory: "digest", None)
    assert config["credit"] == "exact" and inputs == {}
