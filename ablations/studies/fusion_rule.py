"""Who teaches: the model with the lowest cross-entropy (per token or per byte), or all in proportion to it?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Which fusion rule?",
    claim=Claim(
        "MinCE teaches better than AvgCE.",
        source="FuseLLM (arXiv 2401.10491)",
        arm=ArmChoice(model="mean of targets", axes={"fuse": "min_ce"}),
    ),
    held=("dialogues", "sources", "alignment", "training", "questions"),
    models=("mean of targets", "multi", "sce"),
    reference=ArmChoice(axes={"fuse": "average_ce"}),
    limits="who should teach among these sources with this alignment. The rules differ only where sources and pivot"
    " disagree about a text; where one model is best almost everywhere they teach the same.",
    predictions=(
        Prediction(
            "Of wrong labels MinCE believes whoever knows least, and teaches worse than AvgCE.",
            arm=ArmChoice(model="mean of targets", axes={"fuse": "min_ce"}),
            expects="worse",
            size=(-0.25, 0.0),
            made=_MADE,
        ),
        Prediction(
            "So does MinCE per byte.",
            arm=ArmChoice(model="mean of targets", axes={"fuse": "min_ce_byte"}),
            expects="worse",
            size=(-0.25, 0.0),
            made=_MADE,
        ),
    ),
)
