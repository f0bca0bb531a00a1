"""Every shipped study from its composed cells to its findings, on the smoke experiment, in one store.

Figures mean nothing: models are trained for a few steps and asked a few questions.  What is shown is that a study's
arms are trained, merged, served, judged and compared, and that what a study does not change is computed once for all.
Transformers serves: for so few questions vLLM's starts would cost as much as all the rest (its own path is that of
tests/test_pocket_pipeline.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ablations.cell import find_cells, run_cell
from ablations.studies import STUDIES
from ablations.studies.findings import write_findings
from ablations.sweep.cells import expand
from eval.scores.intervals import Uncertainty
from eval.serve.standing import Servers
from fusion.runtime.artifacts import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = [
    "experiment=pocket_smoke",
    "benchmark=[pocket_mt_bench]",
    "serve=transformers",
    "train.max_steps=2",
    "train.save_every=2",
    "seed=0",
]
TARGET = ["source_count=1", "baselines=[]", "merge=[]"]
MERGED = ["source_count=2", "baselines=[]"]
# By study: its smoke subset, what the claim's verdict must be about, and the stage whose outputs no two cells share.
SUBSETS: dict[str, tuple[list[str], str, str]] = {
    "merge_rule": (MERGED, "sce less linear", "merge"),
    "sce_steps": (
        [*MERGED, "row=sce_steps/full,sce_steps/no_select"],
        "sce, row=sce_steps/no_select less sce, row=sce_steps/full",
        "merge",
    ),
    "varm_granularity": (
        [*MERGED, "merge.varm.granularity=model,matrix"],
        "varm, merge.varm.granularity=matrix less varm, merge.varm.granularity=model",
        "merge",
    ),
    "judge_choice": (
        [*MERGED, "merge=[sce]", "judge=reference,reference_panel"],
        "sce, judge=reference less pivot",
        "verdicts",
    ),
    "main_table": (["source_count=2", "ensembles=[random,top1_ppl,top1_judge]"], "sce less pivot", "merge"),
    "source_count": (
        ["baselines=[]", "merge=[linear]", "source_count=1,3"],
        "linear, source_count=3 less linear, source_count=1",
        "merge",
    ),
    "alignment_scheme": ([*TARGET, "align=em,ms"], "mean of targets, align=ms less mean of targets, align=em", "train"),
    "aligner_by_map": (
        [*TARGET, "align.aligner=token_dtw,byte_span", "align.vocabulary_map=min_edit_distance,string"],
        "mean of targets, align.aligner=byte_span, align.vocabulary_map=string less",
        "train",
    ),
    "fusion_rule": ([*TARGET, "fuse=min_ce,average_ce"], "mean of targets, fuse=min_ce less", "train"),
    "objective": ([*TARGET, "train.objective=ce,kl"], "mean of targets, train.objective=kl less", "train"),
    "loss_weight": ([*TARGET, "train.lm_weight=0.9,1.0"], "mean of targets, train.lm_weight=0.9 less", "train"),
    "precision": (
        [
            "source_count=1",
            "baselines=[]",
            "merge=[linear]",
            # A pivot in bf16 would be another set of base models, and tests/test_precision_pipeline.py has it.
            "pocket_dtype=null",
            "row=precision/fp32,precision/bf16_pure,precision/merged_bf16,precision/merged_bf16_stochastic",
        ],
        "mean of targets, row=precision/bf16_pure less mean of targets, row=precision/fp32",
        "merge",
    ),
    "controls": (
        [*TARGET, "row=controls/fused,controls/shuffled"],
        "mean of targets, row=controls/shuffled less mean of targets, row=controls/fused",
        "train",
    ),
    "supervision": (
        [*TARGET, "row=supervision/strict,supervision/everything", "fuse.fuse_with_pivot=false"],
        "mean of targets, row=supervision/strict less mean of targets, row=supervision/everything",
        "train",
    ),
    "label_quality": (
        [*TARGET, "data.pocket.wrong_share=0.05,1", "row=controls/fused,controls/labels"],  # 0.05 is the smoke's own
        "mean of targets, data.pocket.wrong_share=1, row=controls/labels less"
        " mean of targets, data.pocket.wrong_share=1, row=controls/fused",
        "train",
    ),
    "skill_coverage": (
        [*TARGET, "data.pocket.covered_skills=0.5,1.0", "row=controls/fused,controls/labels"],
        "mean of targets, data.pocket.covered_skills=0.5, row=controls/fused less"
        " mean of targets, data.pocket.covered_skills=0.5, row=controls/labels",
        "train",
    ),
    "pivot_choice": (
        ["source_count=1", "baselines=[]", "merge=[sce]", "pivot_choice=0,1"],
        "sce, pivot_choice=1 less sce, pivot_choice=0",
        "merge",
    ),
    "data_size": ([*TARGET, "data_share=0.25,1.0"], "mean of targets, data_share=1.0 less", "train"),
}
UNCERTAINTY = Uncertainty()


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all studies, as a user has it."""
    return tmp_path_factory.mktemp("studies") / "artifacts"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Up from study to study."""
    with Servers() as standing:
        yield standing


def run(name: str, overrides: Sequence[str], *, artifacts: Path, servers: Servers, out: Path) -> None:
    """The study's cells one after another in this process."""
    sweep = expand("ablations", [*SMALL, f"study={name}", *overrides, f"paths.artifacts={artifacts}"])
    swept = set(sweep.master.hydra.sweeper.params) - {"seed"}
    for number, cell in enumerate(sweep.cells):
        composed = sweep.compose(cell)
        axes = {key: value for key, _, value in (text.partition("=") for text in cell) if key in swept}
        run_cell(composed.settings, out=out / str(number), name=composed.name, axes=axes, study=name, servers=servers)


def test_every_study_has_a_smoke_subset():
    assert set(SUBSETS) == set(STUDIES)


def test_a_study_without_its_claims_arm_says_so(tmp_path):
    page = write_findings("objective", STUDIES["objective"], [], tmp_path)
    assert "**not measured**" in page


@pytest.mark.parametrize("name", SUBSETS)
def test_a_study_runs_from_its_cells_to_its_findings(name, artifacts, servers, tmp_path):
    overrides, answer, changed = SUBSETS[name]
    run(name, overrides, artifacts=artifacts, servers=servers, out=tmp_path)
    study = STUDIES[name]
    cells = find_cells(tmp_path)
    findings = study.analyse(cells, UNCERTAINTY)
    also = study.also(cells, UNCERTAINTY) if study.also else ()
    page = write_findings(name, study, findings, tmp_path, also=also)
    assert findings
    assert all(f"| {found.arm} | {found.reference} |" in page for found in findings)
    verdicts = [line for line in page.splitlines() if line.startswith("- **") and answer in line]
    assert len(verdicts) == 1, page
    # Which of four verdicts so small a run gives is chance; that its arms are not one and the same is not.
    told = [json.loads((cell / "cell.json").read_text()) for cell in sorted(tmp_path.glob("*/"))]
    # Two rules may come to the same weights; they are two models all the same.
    assert all(len(set(cell["checkpoints"].values())) == len(cell["checkpoints"]) for cell in told)
    made = [{record["key"] for record in cell["stages"] if record["stage"] == changed} for cell in told]
    if changed == "verdicts":  # a member of a panel has the verdicts that it has alone, and the others have their own
        assert made[0] < made[1]
    else:
        assert all(made) and len(set.union(*made)) == sum(map(len, made))
    assert study.limits in page
    built = Store(root=artifacts).built()
    assert [stage for stage, count in Counter(built).items() if count > 1] == []
