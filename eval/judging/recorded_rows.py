"""What a replayed file says by its own package's way of counting, beside what we count."""

from __future__ import annotations

from collections.abc import Sequence

from eval.judges import Member, Panel
from eval.judging.judging import Judged
from eval.scores.intervals import Uncertainty
from eval.scores.metric_row import MetricRow


def recorded_rows(judged: Judged, judge: Member | Panel, uncertainty: Uncertainty) -> Sequence[MetricRow]:
    """The benchmark's own rows of the file that the judge replays; none where it replays none."""
    job = judged.job
    if judge.replayed is None or not job.answers:
        return ()
    return job.benchmark.recorded_rows(*judge.replayed, job.answers, judged.verdicts, uncertainty)
