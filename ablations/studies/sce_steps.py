"""Select, Calculate, Erase: what does each step of SCE do, how much should be selected, and which reading of it?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Which steps of SCE matter, and does the reading?",
    claim=Claim(
        "Every step helps: SCE without selection is worse than with it.",
        source="FuseChat (arXiv 2408.07990), where each step has its reason",
        arm=ArmChoice(model="sce", axes={"row": "sce_steps/no_select"}),
        expects="worse",
    ),
    held=("targets", "questions"),
    models=("sce",),
    reference=ArmChoice(axes={"row": "sce_steps/full"}),
    limits="what each step does to these targets at this share selected. Steps matter most where targets differ"
    " much; near targets make them all alike.",
    predictions=(
        Prediction(
            "Without selection SCE moves as far as a mean, and is better here.",
            arm=ArmChoice(model="sce", axes={"row": "sce_steps/no_select"}),
            expects="better",
            size=(0.0, 0.3),
            made=_MADE,
        ),
        Prediction(
            "The more is selected the better: half of the elements are better than a tenth.",
            arm=ArmChoice(model="sce", axes={"row": "sce_steps/tau_0.5"}),
            expects="better",
            size=(0.0, 0.25),
            made=_MADE,
        ),
        Prediction(
            "Without erasing it is as good within a tenth.",
            arm=ArmChoice(model="sce", axes={"row": "sce_steps/no_erase"}),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
    ),
)
