"""How a question is asked and a verdict is read.

To add a benchmark: one file, one line here, one YAML in conf/benchmark.
"""

from eval.benchmarks.alpaca_eval import AlpacaEval
from eval.benchmarks.lm_eval_harness import LMEvalHarness
from eval.benchmarks.mt_bench import MTBench
from eval.benchmarks.mt_bench_pairwise import MTBenchPairwise
from eval.benchmarks.protocol import JudgedBenchmark, LoadedBenchmark

BENCHMARKS: dict[str, type[AlpacaEval] | type[LMEvalHarness] | type[MTBench] | type[MTBenchPairwise]] = {
    "mt_bench": MTBench,
    "mt_bench_pairwise": MTBenchPairwise,
    "alpaca_eval": AlpacaEval,
    "lm_eval": LMEvalHarness,
}

__all__ = [
    "BENCHMARKS",
    "AlpacaEval",
    "JudgedBenchmark",
    "LMEvalHarness",
    "LoadedBenchmark",
    "MTBench",
    "MTBenchPairwise",
]
