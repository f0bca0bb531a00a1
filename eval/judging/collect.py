"""Verdicts on one model's answers: what is already in the journal is kept, only the rest is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from eval.benchmarks.protocol import JudgingPlan, LoadedBenchmark
from eval.exchange import JudgeRequest, Reply
from eval.judges.protocol import Judge
from eval.records import Journal, Place, Unscored, Verdict, read_verdicts


def collect_verdicts(
    *,
    benchmark: LoadedBenchmark,
    plan: JudgingPlan,
    judge: Judge,
    journal: Path,
    readings: int = 1,
    on_verdict: Callable[[Verdict | Unscored], None] | None = None,
) -> list[Verdict | Unscored]:
    """One verdict, or the reason for none, per place of the plan, in the order of the benchmark's questions.

    `journal` must belong to exactly this plan, benchmark and judge (an artifact's directory does).  Each verdict is in
    it before the worker that asked for it asks again; a question the judge never answered is asked once more on the
    next call, and of two records on one place the later counts, with the tokens of both.  `on_verdict` is called with
    each new one.  A reply that cannot be read is asked for up to `readings` times, over all calls.
    """
    latest: dict[Place, Verdict | Unscored] = {}
    read: Counter[Place] = Counter()  # replies, whatever they said
    for record in read_verdicts(journal):
        latest[record.place] = _with_tokens_of(latest.get(record.place), record)
        read[record.place] += not needs_asking(record)
    done = {place: record for place, record in latest.items() if not needs_asking(record)}
    done |= {record.place: record for record in plan.settled}
    with Journal(journal) as written:

        def hand_over(request: JudgeRequest, reply: Reply) -> None:
            record = benchmark.read(request, reply, judge=judge.label)
            written.append(record)
            latest[record.place] = done[record.place] = _with_tokens_of(latest.get(record.place), record)
            read[record.place] += not needs_asking(record)
            if on_verdict is not None:
                on_verdict(record)

        for _ in range(readings):
            judge.judge(
                [
                    request
                    for request in plan.requests
                    if request.place not in done or (unreadable(done[request.place]) and read[request.place] < readings)
                ],
                hand_over,
            )
    row = {question.id: number for number, question in enumerate(benchmark.questions)}
    return [done[place] for place in sorted(done, key=lambda place: (row[place.question_id], place))]


def needs_asking(record: Verdict | Unscored) -> bool:
    """Whether the judge gave no reply at all, so that asking again may help."""
    return isinstance(record, Unscored) and record.kind == "no_reply"


def unreadable(record: Verdict | Unscored) -> bool:
    """Whether the judge replied, but not with a verdict."""
    return isinstance(record, Unscored) and record.kind == "unreadable"


def _with_tokens_of(before: Verdict | Unscored | None, record: Verdict | Unscored) -> Verdict | Unscored:
    """A failed attempt was paid for as well."""
    if before is None:
        return record
    return replace(
        record,
        prompt_tokens=before.prompt_tokens + record.prompt_tokens,
        completion_tokens=before.completion_tokens + record.completion_tokens,
    )
