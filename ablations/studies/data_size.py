"""How many fusion dialogues?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="How does the number of fusion dialogues matter?",
    claim=Claim(
        "More dialogues help fusion.",
        source="FuseChat (arXiv 2408.07990), which uses 95,000",
        arm=ArmChoice(model="mean of targets", axes={"data_share": "1.0"}),
    ),
    held=("sources", "alignment", "fusion rule", "steps", "questions"),
    models=("mean of targets", "sft", "sce"),
    reference=ArmChoice(axes={"data_share": "0.25"}),
    limits="more of the same dialogues at equal steps, so a larger set is also seen fewer times. Other dialogues, or"
    " more steps with more data, are other questions.",
    predictions=(
        Prediction(
            "Four times as many dialogues make better targets at equal steps.",
            arm=ArmChoice(model="mean of targets", axes={"data_share": "1.0"}),
            expects="better",
            size=(0.02, 0.4),
            made=_MADE,
        ),
        Prediction(
            "Twice as many help by less.",
            arm=ArmChoice(model="mean of targets", axes={"data_share": "0.5"}),
            expects="better",
            size=(0.0, 0.25),
            made=_MADE,
        ),
    ),
)
