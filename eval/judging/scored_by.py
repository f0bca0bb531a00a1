"""From verdicts to one scored model: the benchmark's metrics, and beside them the judge's own noise, cost and votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eval.benchmarks import judged as judged_benchmark
from eval.judging.judging import Judged
from eval.judging.shown import shown_answers
from eval.records import Place, Unscored, Verdict
from eval.scored import JudgedBy, ScoredModel
from eval.scores.intervals import Uncertainty
from eval.scores.judge_noise import judge_noise, judge_sd_interval
from eval.scores.metric_row import MetricRow


def scored_by(
    judged: Judged, notes: Sequence[str], uncertainty: Uncertainty, *, beside: Sequence[MetricRow] = ()
) -> ScoredModel:
    """The benchmark's metrics of one job, those that stand `beside` them, the judge's own noise where it was asked
    repeatedly, and what to look up.
    """
    job = judged.job
    metrics = [
        *job.benchmark.metrics(judged.verdicts, job.answers, uncertainty),
        *beside,
        *noise_rows(job.benchmark.name, judged.said if not judged.members else [], uncertainty),
    ]
    votes = {
        name: {record.place: record.value for record in records if isinstance(record, Verdict)}
        for name, records in judged.members.items()
    }
    return ScoredModel(
        model=job.candidate.model,
        group=job.candidate.group,
        benchmark=job.benchmark.name,
        metrics=tuple(metrics),
        items=tuple(job.benchmark.item_scores(judged.verdicts, job.answers)),
        shown=shown_answers(job.benchmark, job.answers, judged.said),
        judged=JudgedBy(costs=judged.costs, votes=votes, notes=tuple(notes)),
        role=job.candidate.role,
        oracle=job.candidate.oracle,
    )


def noise_rows(benchmark: str, records: Sequence[Verdict | Unscored], uncertainty: Uncertainty) -> list[MetricRow]:
    """The primary metric's `..._judge_sd`: the standard deviation of repeated verdicts on one item; `..._judge_share`:
    the judge's part of the squared standard error, in percent.  None where no request was repeated.

    Preferences are taken in percent of a win, as win rates are.
    """
    repeated = {record.place.first_time for record in records if record.repeat > 0}
    values: dict[Place, list[float]] = {}
    for record in records:
        if isinstance(record, Verdict) and record.place.first_time in repeated:
            values.setdefault(record.place.first_time, []).append(record.value)
    known = judged_benchmark(benchmark)
    if not repeated or known is None:
        return []
    primary = known.primary
    scale, (deviation, part) = primary.scale, primary.of_judge()
    row = MetricRow(
        benchmark=benchmark,
        metric=deviation.name,
        slice="all",
        value=None,
        n=len(values),
        unscored=len(repeated) - len(values),
        reason="no request was scored twice",
    )
    share = replace(row, metric=part.name)
    try:
        found = judge_noise([*values.values()])
    except ValueError:
        return [row, share]
    ends = judge_sd_interval([*values.values()], [place.question_id for place in values], uncertainty)
    low, high = (None, None) if ends is None else (scale * ends[0], scale * ends[1])
    return [
        replace(row, value=scale * found.judge_sd, low=low, high=high, reason=None),
        replace(share, value=100 * found.judge_share, reason=None),
    ]
