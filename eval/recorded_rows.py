"""What a replayed file says by its own package's way of counting, beside what we count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks.fastchat_means import counted_alike, fastchat_rows
from eval.benchmarks.mt_bench import LoadedMTBench
from eval.errors import JudgeFailure
from eval.judges import Member, Panel, Recorded
from eval.judges.recorded_judgments import Judgments
from eval.judging import Judged
from eval.records import Verdict, read_rows
from eval.scores.intervals import Bootstrap
from eval.scores.metric_row import MetricRow


def recorded_rows(judged: Judged, judge: Member | Panel, bootstrap: Bootstrap) -> Sequence[MetricRow]:
    """`rating_fastchat` rows where MT-Bench judgments are replayed from a file that holds repeats, failures, ratings
    off the scale, or judgments of other answers for this model; none otherwise.
    """
    job = judged.job
    if not isinstance(judge, Recorded) or not isinstance(job.benchmark, LoadedMTBench):
        return ()
    requests = job.benchmark.plan(job.answers).requests
    if not requests:
        return ()
    path = Path(judge.file)
    try:
        rows = Judgments(path, read_rows(path), judge.model, requests).rows
    except JudgeFailure:  # answers picked from several models: the file has no name for their picker
        return ()
    scored = sum(isinstance(record, Verdict) for record in judged.verdicts)
    return (
        () if counted_alike(rows) and scored == len(rows) else fastchat_rows(rows, job.benchmark.questions, bootstrap)
    )
