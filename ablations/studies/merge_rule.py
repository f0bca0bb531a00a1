"""Which merge rule?  All rules on the same targets, each beside the plain mean."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Which merge rule makes the best model of the targets?",
    claim=Claim(
        "SCE merges better than the plain mean.",
        source="FuseChat (arXiv 2408.07990), which chose it",
        arm=ArmChoice(model="sce"),
    ),
    held=("dialogues", "sources", "alignment", "fusion rule", "training", "questions"),
    reference=ArmChoice(model="linear"),
    limits="rules at the settings that the experiment gives them, on one set of targets. A rule that loses might win"
    " when tuned, and the best of seven on the same questions looks better than it is.",
    predictions=(
        Prediction(
            "Where targets are better than their pivot, SCE's selection gives up a part of it.",
            arm=ArmChoice(model="sce"),
            expects="worse",
            size=(-0.25, 0.0),
            made=_MADE,
        ),
        Prediction(
            "TIES is within a tenth of the plain mean.",
            arm=ArmChoice(model="ties"),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
    ),
)
