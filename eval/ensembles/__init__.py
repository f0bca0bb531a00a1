"""Baselines that need no training: ensembles of the source models, computed on what those answered.

    [{"random", "longest", "best_source", "top1_judge", "top1_ppl", "top1_pairrm"}]   select one source's answer
    [{"packllm_sim", "packllm_opt", "fusion_of_n"}]                                   write an answer of their own

To add one: a file with a frozen dataclass and `choose` (a rule that selects, `eval.ensembles.selection`) or `row` (one
that writes, `eval.ensembles.writing`), a line here, a YAML in conf/ensembles.

    selection.py                                           what a rule that selects is shown
    random_source.py, longest.py, best_source.py           what any selection must beat
    top1_judge.py, top1_ppl.py, top1_pairrm.py             the rows of FuseChat's Table 1
    packllm.py, mixture.py                                 several models generating one answer
    vocabulary_map.py                                      from one vocabulary into another
    writing.py                                             what a rule that writes is given
    fusion_of_n.py                                         one model that has read all answers
"""

from __future__ import annotations

from eval.ensembles.best_source import BestSource
from eval.ensembles.fusion_of_n import FusionOfN
from eval.ensembles.longest import Longest
from eval.ensembles.packllm import PackLLMOpt, PackLLMSim
from eval.ensembles.random_source import Random
from eval.ensembles.selection import Selection
from eval.ensembles.top1_judge import Top1Judge
from eval.ensembles.top1_pairrm import Top1PairRM
from eval.ensembles.top1_ppl import Top1PPL
from eval.ensembles.writing import Writing

Ensemble = Selection | Writing

ENSEMBLES: dict[str, type[Ensemble]] = {
    "random": Random,
    "longest": Longest,
    "best_source": BestSource,
    "top1_judge": Top1Judge,
    "top1_ppl": Top1PPL,
    "top1_pairrm": Top1PairRM,
    "packllm_sim": PackLLMSim,
    "packllm_opt": PackLLMOpt,
    "fusion_of_n": FusionOfN,
}
PREFIX = "ensemble-"

__all__ = [
    "ENSEMBLES",
    "PREFIX",
    "BestSource",
    "Ensemble",
    "FusionOfN",
    "Longest",
    "PackLLMOpt",
    "PackLLMSim",
    "Random",
    "Selection",
    "Top1Judge",
    "Top1PPL",
    "Top1PairRM",
    "Writing",
]
