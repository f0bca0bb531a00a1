"""Select, Calculate, Erase: what does each step of SCE do, how much should be selected, and which reading of it?"""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

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
)
