"""Verdicts on one model's answers: what is already in the journal is kept, only the rest is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from eval.benchmarks.protocol import LoadedBenchmark
from eval.benchmarks.slots import all_slots
from eval.judges.exchange import JudgeRequest, Reply
from eval.judges.protocol import Judge
from eval.records import Answer, Journal, Unscored, Verdict, read_verdicts


def collect_verdicts(
    *,
    benchmark: LoadedBenchmark,
    answers: Sequence[Answer],
    judge: Judge,
    journal: Path,
    on_verdict: Callable[[Verdict | Unscored], None] | None = None,
) -> list[Verdict | Unscored]:
    """One verdict, or the reason for none, per question and turn, in the benchmark's order.

    `journal` must belong to exactly these answers, benchmark and judge (an artifact's directory does).  Each verdict
    is in it before the place that asked for it asks again; a question the judge never answered is asked once more on
    the next call, and of two records on one turn the later counts.  `on_verdict` is told of each new one.
    """
    plan = benchmark.plan(answers)
    latest = {(record.question_id, record.turn): record for record in read_verdicts(journal)}
    done = {place: record for place, record in latest.items() if not needs_asking(record)}
    done |= {(record.question_id, record.turn): record for record in plan.settled}
    with Journal(journal) as written:

        def hand_over(request: JudgeRequest, reply: Reply) -> None:
            record = benchmark.read(request, reply, judge=judge.label)
            written.append(record)
            done[record.question_id, record.turn] = record
            if on_verdict is not None:
                on_verdict(record)

        open_requests = [request for request in plan.requests if (request.question_id, request.turn) not in done]
        judge.judge(open_requests, hand_over)
    places = [(question.id, turn) for question, turn in all_slots(benchmark.questions)]
    return [done[place] for place in places if place in done]


def needs_asking(record: Verdict | Unscored) -> bool:
    """Whether the judge gave no reply at all, so that asking again may help."""
    return isinstance(record, Unscored) and record.kind == "no_reply"
