"""Verdicts collected into a journal: only what is missing is asked, and nothing twice after success."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from eval.benchmarks import MTBench
from eval.benchmarks.protocol import BenchmarkFiles
from eval.judges import JudgeRequest, Reply
from eval.judging.collect import collect_verdicts
from eval.records import Answer, Unscored, read_verdicts


@dataclass
class Scripted:
    """Rates everything 5; the `fails`-th question has no reply, and after `dies` replies the process is gone."""

    fails: int | None = None
    dies: int | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    label: str = "scripted"

    def judge(self, requests: Sequence[JudgeRequest], hand_over: Callable[[JudgeRequest, Reply], None]) -> None:
        for number, request in enumerate(requests):
            if number == self.dies:
                raise KeyboardInterrupt
            self.asked.append((request.question_id, request.turn))
            hand_over(request, Reply(failure="timed out") if number == self.fails else Reply(text="[[5]]"))


@pytest.fixture
def benchmark(tmp_path):
    rows = [{"question_id": i, "category": "c", "turns": ["a", "b"], "reference": ["x", "y"]} for i in range(4)]
    path = tmp_path / "question.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return MTBench().load(BenchmarkFiles(questions=path))


SAID = [Answer(question_id=str(i), model="m", turns=("x", "y")) for i in range(4)]


def test_an_interrupted_judging_asks_only_for_the_rest(benchmark, tmp_path):
    journal = tmp_path / "verdicts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        collect_verdicts(benchmark=benchmark, plan=benchmark.plan(SAID), judge=Scripted(dies=3), journal=journal)
    assert len(read_verdicts(journal)) == 3
    second = Scripted()
    verdicts = collect_verdicts(benchmark=benchmark, plan=benchmark.plan(SAID), judge=second, journal=journal)
    assert second.asked == [("1", 2), ("2", 1), ("2", 2), ("3", 1), ("3", 2)]
    assert [(v.question_id, v.turn) for v in verdicts] == [(str(i), turn) for i in range(4) for turn in (1, 2)]
    assert {v.value for v in verdicts} == {5.0}
    third = Scripted()
    assert collect_verdicts(benchmark=benchmark, plan=benchmark.plan(SAID), judge=third, journal=journal) == verdicts
    assert third.asked == []


def test_a_question_without_reply_is_asked_again_and_the_later_record_counts(benchmark, tmp_path):
    journal = tmp_path / "verdicts.jsonl"
    plan = benchmark.plan(SAID)
    verdicts = collect_verdicts(benchmark=benchmark, plan=plan, judge=Scripted(fails=2), journal=journal)
    assert isinstance(verdicts[2], Unscored)
    assert verdicts[2].reason == "timed out"
    again = Scripted()
    verdicts = collect_verdicts(benchmark=benchmark, plan=benchmark.plan(SAID), judge=again, journal=journal)
    assert again.asked == [("1", 1)]
    assert not any(isinstance(verdict, Unscored) for verdict in verdicts)


def test_an_unreadable_reply_is_final(benchmark, tmp_path):
    class Mumbling(Scripted):
        def judge(self, requests, hand_over):
            for request in requests:
                self.asked.append((request.question_id, request.turn))
                hand_over(request, Reply(text="fine"))

    journal = tmp_path / "verdicts.jsonl"
    first = collect_verdicts(benchmark=benchmark, plan=benchmark.plan(SAID), judge=Mumbling(), journal=journal)
    again = Mumbling()
    assert collect_verdicts(benchmark=benchmark, plan=benchmark.plan(SAID), judge=again, journal=journal) == first
    assert again.asked == []


def test_an_unreadable_reply_is_asked_for_as_often_as_is_set_over_all_calls(benchmark, tmp_path):
    @dataclass
    class Evasive(Scripted):
        """Refuses the first `refuses` askings of question 1, turn 1."""

        refuses: int = 0

        def judge(self, requests, hand_over):
            for request in requests:
                self.asked.append((request.question_id, request.turn))
                evades = self.asked.count(("1", 1)) <= self.refuses and self.asked[-1] == ("1", 1)
                hand_over(request, Reply(text="I cannot" if evades else "[[5]]", prompt_tokens=7))

    def collected(judge, name, readings):
        journal = tmp_path / name
        plan = benchmark.plan(SAID)
        return collect_verdicts(benchmark=benchmark, plan=plan, judge=judge, journal=journal, readings=readings)

    once = Evasive(refuses=1)
    verdicts = collected(once, "once", 2)
    assert once.asked.count(("1", 1)) == 2
    assert len(once.asked) == 9
    assert [(v.value, v.prompt_tokens) for v in verdicts] == [(5.0, 7)] * 2 + [(5.0, 14)] + [(5.0, 7)] * 5
    always = Evasive(refuses=99)
    assert isinstance(collected(always, "always", 3)[2], Unscored)
    assert always.asked.count(("1", 1)) == 3
    again = Evasive()
    assert isinstance(collected(again, "always", 3)[2], Unscored)  # its askings are used up
    assert again.asked == []


def test_each_new_verdict_is_told_and_old_ones_are_not(benchmark, tmp_path):
    told = []
    for _ in range(2):
        collect_verdicts(
            benchmark=benchmark,
            plan=benchmark.plan(SAID),
            judge=Scripted(),
            journal=tmp_path / "verdicts.jsonl",
            on_verdict=told.append,
        )
    assert len(told) == 8
