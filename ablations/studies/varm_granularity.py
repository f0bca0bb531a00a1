"""VaRM's unit: one coefficient for the model, a layer, a matrix, or every element."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

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
    predictions=(
        Prediction(
            "A coefficient for each matrix is as good as one for the model, within a twentieth.",
            arm=ArmChoice(model="varm", axes={"merge.varm.granularity": "matrix"}),
            expects="equal",
            size=(-0.05, 0.05),
            made=_MADE,
        ),
        Prediction(
            "One for each element is as good within a tenth.",
            arm=ArmChoice(model="varm", axes={"merge.varm.granularity": "element"}),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
    ),
)
