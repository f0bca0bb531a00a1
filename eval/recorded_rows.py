"""What a replayed file says by its own package's way of counting, beside what we count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks.fastchat_means import counted_alike, fastchat_pair_rows, fastchat_rows
from eval.benchmarks.mt_bench import LoadedMTBench
from eval.benchmarks.mt_bench_pairwise import LoadedMTBenchPairwise
from eval.errors import JudgeFailure
from eval.judges import Member, Panel, Recorded
from eval.judges.recorded_judgments import Judgments, PairJudgments, rows_of
from eval.judging import Judged
from eval.records import Verdict
from eval.scores.intervals import Bootstrap
from eval.scores.metric_row import MetricRow


def recorded_rows(judged: Judged, judge: Member | Panel, bootstrap: Bootstrap) -> Sequence[MetricRow]:
    """`rating_fastchat` or `pairwise_win_rate_fastchat` rows where MT-Bench judgments are replayed from a file that
    holds repeats, failures, ratings off the scale, or judgments of other answers for this model; none otherwise.
    """
    benchmark, answers = judged.job.benchmark, judged.job.answers
    if not isinstance(judge, Recorded) or not answers:
        return ()
    path = Path(judge.file)
    if isinstance(benchmark, LoadedMTBenchPairwise):
        model = judge.model or answers[0].model
        rows = PairJudgments(path, rows_of(path), judge.model).rows(model, benchmark.opponents)
        ours = sum(pair.outcome is not None for pair in benchmark.pairs(judged.verdicts))
        alike = ours == len(rows)
        return () if alike else fastchat_pair_rows(rows, model, benchmark.questions, bootstrap)
    if not isinstance(benchmark, LoadedMTBench):
        return ()
    requests = benchmark.plan(answers).requests
    if not requests:
        return ()
    try:
        rows = Judgments(path, rows_of(path), judge.model, requests).rows
    except JudgeFailure:  # answers picked from several models: the file has no name for their picker
        return ()
    ours = sum(isinstance(record, Verdict) for record in judged.verdicts)
    alike = counted_alike(rows) and ours == len(rows)
    return () if alike else fastchat_rows(rows, benchmark.questions, bootstrap)
