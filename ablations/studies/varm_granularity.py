"""VaRM's unit: one coefficient for the model, a layer, a matrix, or every element."""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

STUDY = Study(
    question="How fine should VaRM's coefficients be?",
    claim=Claim(
        "Matrix is better than model (8.22 against 8.10 on MT-Bench).",
        source="FuseChat v1 (arXiv 2402.16107), table 2",
        arm=ArmChoice(model="varm", axes={"merge.varm.granularity": "matrix"}),
    ),
    held=("targets", "questions"),
    models=("varm",),
    reference=ArmChoice(axes={"merge.varm.granularity": "model"}),
    limits="granularity on targets of one size. The spread of the coefficients grows with the number of units, so"
    " larger models may show what small ones hide.",
)
