"""Who is compared with whom in a pairwise benchmark, and whose a verdict is.

    jobs = pair_up(jobs)                              # each model gets the answers of those it meets
    judged = both_sides(Judging(config, progress).all(jobs))

Against a baseline every other model meets it.  In all pairs each model meets those after it, so a pair is judged once;
`both_sides` then hands the verdict to the other model too, seen from its side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eval.benchmarks.fastchat.verdict_letter import LOSS, WIN
from eval.benchmarks.protocol import HeadToHead
from eval.judging.judgement import JudgingJob
from eval.judging.judging import Judged
from eval.records import Answer, Unscored, Verdict
from fusion.runtime.configure import Refusal


def pair_up(jobs: Sequence[JudgingJob]) -> list[JudgingJob]:
    """The same jobs, those of a pairwise benchmark bound to their opponents' answers; the baseline itself has none.

    Raises Refusal for a baseline that is neither a file nor a model of the run, and when there is no opponent.
    """
    found = []
    for job in jobs:
        games = job.benchmark.head_to_head
        if games is None:
            found.append(job)
            continue
        answers = {other.candidate.model: _named(other) for other in jobs if other.entry == job.entry}
        names = list(answers)
        answers |= {answer.model: games.baseline for answer in games.baseline[:1]}
        baseline = _baseline(games, names, job.entry)
        own = job.candidate.model
        met = names[names.index(own) + 1 :] if baseline is None else [baseline] if own != baseline else []
        benchmark = games.against({name: answers[name] for name in met})
        found.append(replace(job, benchmark=benchmark, answers=answers[own]))
    return found


def both_sides(judged: Sequence[Judged]) -> list[Judged]:
    """For an all-pairs benchmark, give every model the verdicts on all its pairs; return other entries unchanged."""
    found = []
    for one in judged:
        games = one.job.benchmark.head_to_head
        if games is None or games.compared_with is not None:
            found.append(one)
            continue
        model = one.job.candidate.model
        others = [other for other in judged if other.job.entry == one.job.entry and other is not one]
        opponents = {other.job.candidate.model: other.job.answers for other in others}
        met = [other for other in others if (board := other.job.benchmark.head_to_head) and model in board.opponents]
        found.append(
            replace(
                one,
                job=replace(one.job, benchmark=games.against(opponents)),
                verdicts=[*one.verdicts, *(r for other in met for r in _seen_by(model, other, other.verdicts))],
                said=[*one.said, *(r for other in met for r in _seen_by(model, other, other.said))],
                members={
                    name: [*own, *(r for other in met for r in _seen_by(model, other, other.members[name]))]
                    for name, own in one.members.items()
                },
            )
        )
    return found


def _seen_by(model: str, judged: Judged, records: Sequence[Verdict | Unscored]) -> list[Verdict | Unscored]:
    """Another model's records on its pairs with `model`, from `model`'s side; their tokens were counted there."""
    turned = []
    for record in records:
        if record.opponent == model:
            record = replace(
                record,
                opponent=judged.job.candidate.model,
                order=3 - record.order,
                prompt_tokens=0,
                completion_tokens=0,
            )
            turned.append(replace(record, value=LOSS + WIN - record.value) if isinstance(record, Verdict) else record)
    return turned


def _named(job: JudgingJob) -> tuple[Answer, ...]:
    """A job's answers under its model's name in the table, which identifies opponents."""
    return tuple(replace(answer, model=job.candidate.model) for answer in job.answers)


def _baseline(benchmark: HeadToHead, names: Sequence[str], entry: str) -> str | None:
    """The baseline's name; None for all pairs."""
    given = benchmark.compared_with
    way_out = f"set benchmark.{entry}.baseline to a model of the run, to a file of answers, or to null for all pairs"
    if given is None:
        if len(names) < 2:
            raise Refusal(
                f"{entry}: {', '.join(names)} has no model to be compared with: evaluate two models, or {way_out}"
            )
        return None
    if benchmark.baseline:
        given = benchmark.baseline[0].model
    elif given not in names:
        raise Refusal(f"{entry}: baseline {given} is none of the models {', '.join(names)}: {way_out}")
    if list(names) == [given]:
        raise Refusal(f"{entry}: {given} would be compared with itself: {way_out}")
    return given
