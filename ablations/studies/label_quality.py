"""How wrong must labels be before the sources' distributions are worth more than they are?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.carried import shuffled_table
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)
_WRONG = "data.pocket.wrong_share"


def _of(row: str, wrong: str, model: str = "linear") -> ArmChoice:
    return ArmChoice(model=model, axes={_WRONG: wrong, "row": f"controls/{row}"})


STUDY = Study(
    question="Does what fusion adds depend on how many labels are wrong?",
    claim=Claim(
        "Where every label is wrong, labels alone are worse than fused targets.",
        source="this project: what sources know can repair labels, if it is theirs and not the softness of any target",
        arm=_of("labels", "1", "mean of targets"),
        expects="worse",
    ),
    held=(
        "questions asked of the dialogues",
        "sources",
        "alignment",
        "fusion rule",
        "number of trainings",
        "steps",
        "merge rules",
        "questions",
    ),
    models=("mean of targets", "linear"),
    reference=ArmChoice(axes={"row": "controls/fused"}),
    limits="what fused targets add to each control at one quality of labels: arms are compared at the same share of"
    " wrong labels, never across shares. A wrong label here is a slip in one word, figure or letter of each answer;"
    " errors that a model would make itself may do other harm. A gain of fused and shuffled targets alike is no"
    " knowledge of the sources. The rule that chooses who teaches reads no label; one that does may differ.",
    also=lambda cells, uncertainty: shuffled_table(cells),
    predictions=(
        Prediction(
            "Where every label is wrong, merged labels are far worse than merged fused targets.",
            arm=_of("labels", "1"),
            expects="worse",
            size=(-2.5, -0.5),
            made=_MADE,
        ),
        Prediction(
            "There, the shuffled alternatives are worse too: it is what the sources name that repairs.",
            arm=_of("shuffled", "1"),
            expects="worse",
            size=(-1.5, -0.1),
            made=_MADE,
        ),
        Prediction(
            "There, the pivot's own distributions are worse: it cannot repair what it does not know.",
            arm=_of("self_distillation", "1"),
            expects="worse",
            size=(-0.9, -0.1),
            made=_MADE,
        ),
        Prediction(
            "Where a fifth is wrong, merged labels and merged fused targets are about as good.",
            arm=_of("labels", "0.2"),
            expects="equal",
            size=(-0.25, 0.25),
            made=_MADE,
        ),
        Prediction(
            "Where none is wrong, labels alone are better than fused targets, in which the sources' errors stay.",
            arm=_of("labels", "0"),
            expects="better",
            size=(0.0, 0.6),
            made=_MADE,
        ),
    ),
)
