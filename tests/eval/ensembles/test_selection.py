"""Rules that select choose what their definition says, by hand, and only among complete answers."""

import json

import pytest

from eval.ensembles import ENSEMBLES, BestSource, Longest, Random, Top1Judge, Top1PairRM, Top1PPL
from eval.ensembles.selection import Option
from eval.likelihood.surprise import Share, Surprise
from eval.records import Answer
from fusion.runtime.configure import Refusal

SOURCES = ("a", "b", "c")


def option(place: int, *, turns=("text",), score=None, surprise=None, reason=None, question="q") -> Option:
    model = SOURCES[place]
    answer = Answer(question_id=question, model=model, turns=tuple(turns), reason=reason)
    return Option(benchmark="mt_bench", model=model, answer=answer, score=score, surprise=surprise)


def scored(*scores: float | None) -> list[Option]:
    return [option(place, score=score) for place, score in enumerate(scores)]


def test_top1_judge_takes_each_question_s_best_score_and_of_equals_the_first():
    options = {"1": scored(3.0, 9.0, 5.0), "2": scored(8.0, 2.0, 8.0), "3": scored(None, None, 1.0)}
    assert Top1Judge().choose(options) == {"1": 1, "2": 0, "3": 2}


def test_top1_judge_leaves_the_first_source_where_nothing_was_scored():
    assert Top1Judge().choose({"1": scored(None, None, None)}) == {"1": 0}


def test_best_source_is_one_source_for_all_questions_by_its_mean():
    # a: (9 + 1) / 2 = 5; b: (6 + 6) / 2 = 6; c: scored once, 5.5.  Top-1 would have taken a for question 1.
    options = {"1": scored(9.0, 6.0, 5.5), "2": scored(1.0, 6.0, None)}
    assert BestSource().choose(options) == {"1": 1, "2": 1}


def test_longest_counts_the_characters_of_all_turns():
    offered = [option(0, turns=("x" * 9, "")), option(1, turns=("xxxx", "xxxxxx")), option(2, turns=("ä" * 10, ""))]
    assert Longest().choose({"1": offered}) == {"1": 1}  # 9, 10, 10 characters; the umlauts are 20 bytes


def test_an_incomplete_answer_is_not_chosen_while_another_is_complete():
    offered = [option(0, turns=("x" * 99,), reason="too long"), option(1, turns=("x", "y")), option(2, turns=("", ""))]
    assert Longest().choose({"1": offered}) == {"1": 1}
    assert set(Random().choose({str(n): offered for n in range(50)}).values()) == {1, 2}


def test_random_depends_on_seed_and_question_alone_and_takes_each_source_about_as_often():
    many = {str(number): scored(1, 1, 1) for number in range(900)}
    one = Random(seed=0).choose(many)
    assert Random(seed=0).choose(dict(reversed(many.items()))) == one
    assert Random(seed=1).choose(many) != one
    counts = [list(one.values()).count(place) for place in range(3)]
    assert all(abs(count - 300) < 60 for count in counts)  # four standard deviations: 4 * sqrt(900 * 2 / 9) = 57


def surprise(prompt: tuple[float, int, int], answer: tuple[float, int, int]) -> Surprise:
    def share(nats, tokens, count):
        return Share(nats=nats, tokens=tokens, bytes=count)

    return Surprise(prompt=share(*prompt), answer=share(*answer))


def test_top1_ppl_is_the_lowest_of_the_prompt_or_the_answer_per_token_or_per_byte():
    offered = [
        option(0, surprise=surprise((10.0, 10, 40), (30.0, 10, 20))),  # 1.0, 0.25; 3.0, 1.5
        option(1, surprise=surprise((12.0, 20, 40), (20.0, 10, 10))),  # 0.6, 0.30; 2.0, 2.0
        option(2, surprise=None),
    ]
    choices = {(of, per): Top1PPL(of=of, per=per).choose({"1": offered})["1"] for of, per in _VARIANTS}
    assert choices == {("prompt", "token"): 1, ("prompt", "byte"): 0, ("answer", "token"): 1, ("answer", "byte"): 0}


_VARIANTS = [(of, per) for of in ("prompt", "answer") for per in ("token", "byte")]


def test_top1_pairrm_reads_the_scores_that_were_given_and_refuses_to_guess(tmp_path):
    with pytest.raises(ValueError, match="PairRM is not run here"):
        Top1PairRM()
    path = tmp_path / "scores.jsonl"
    rows = [{"benchmark": "mt_bench", "question_id": 1, "scores": {"a": -1.5, "b": 0.25, "c": 0.0}}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert Top1PairRM(file=str(path)).choose({"1": scored(9, 1, 9)}) == {"1": 1}
    with pytest.raises(Refusal, match="no score of a on question 2 of mt_bench"):
        Top1PairRM(file=str(path)).choose({"2": scored(1, 1, 1)})


def test_only_the_rules_that_know_verdicts_are_oracles():
    assert {name for name, rule in ENSEMBLES.items() if rule.oracle} == {"best_source", "top1_judge"}
