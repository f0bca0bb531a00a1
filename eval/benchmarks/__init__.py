"""How a question is asked, a verdict is read and a metric is meant.

To add a benchmark: one file, one line here, one YAML in conf/benchmark.  In reading order:

    protocol.py               what a judged benchmark is, and what it is asked with
    slots.py                  one turn of one question: a verdict or a reason, never both
    fastchat/                 MT-Bench as the fschat package has it
    mt_bench.py               MT-Bench, each answer rated
    paired_games.py           two games of one pair of answers
    mt_bench_pairwise.py      MT-Bench by comparison
    pairwise_preference.py    two answers, one preferred: alpaca-eval's annotators
    alpaca/                   AlpacaEval's own metrics
    alpaca_eval.py            AlpacaEval 2
    stand_ins.py              questions for a plan made without the benchmark's files
    lm_eval_scores.py         what lm-eval logs, as item scores
    lm_eval_tasks.py          the task files that it is given
    lm_eval_harness.py        lm-eval tasks, which need no judge
    text_bpb.py               bits per byte of given answers, which needs none either
"""

import functools
from typing import cast

from eval.benchmarks.alpaca_eval import AlpacaEval
from eval.benchmarks.lm_eval_harness import LMEvalHarness
from eval.benchmarks.lm_eval_scores import metric_of_task
from eval.benchmarks.mt_bench import MTBench
from eval.benchmarks.mt_bench_pairwise import MTBenchPairwise
from eval.benchmarks.protocol import JudgedBenchmark, LoadedBenchmark, MeasuredBenchmark
from eval.benchmarks.text_bpb import TextBPB
from eval.scores.metric import Metric

BENCHMARKS: dict[str, type[JudgedBenchmark] | type[MeasuredBenchmark]] = {
    "mt_bench": MTBench,
    "mt_bench_pairwise": MTBenchPairwise,
    "alpaca_eval": AlpacaEval,
    "lm_eval": LMEvalHarness,
    "text_bpb": TextBPB,
}


def judged(name: str) -> type[JudgedBenchmark] | None:
    """The judged benchmark of that name, as the `benchmark` column has it; None where rows bear an lm-eval entry's."""
    found = BENCHMARKS.get(name)
    return cast("type[JudgedBenchmark]", found) if found is not None and found.needs_judge else None


@functools.cache
def metric_of(benchmark: str, metric: str) -> Metric:
    """How a metric is meant: as its benchmark declares it, or another where it does not (an older table's metric);
    what no benchmark declares is an lm-eval task's.
    """
    names = [name for name in (benchmark, *BENCHMARKS) if judged(benchmark) is not None]
    known = [one for name in names if (one := judged(name)) is not None]
    declared = (one for found in known for one in (*found.metrics, *found.primary.of_judge()))
    return next((one for one in declared if one.name == metric), metric_of_task(metric))


__all__ = [
    "BENCHMARKS",
    "AlpacaEval",
    "JudgedBenchmark",
    "LMEvalHarness",
    "LoadedBenchmark",
    "MTBench",
    "MTBenchPairwise",
    "MeasuredBenchmark",
    "TextBPB",
    "judged",
    "metric_of",
]
