"""How wrong must labels be before the sources' distributions are worth more than they are?"""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

STUDY = Study(
    question="Does what fusion adds depend on how many labels are wrong?",
    claim=Claim(
        "Where every label is wrong, fused targets are better than labels alone.",
        source="this project: what sources know can repair labels, if it is theirs and not the softness of any target",
        arm=ArmChoice(model="mean of targets", axes={"data.pocket.wrong_share": "1", "row": "controls/fused"}),
    ),
    held=(
        "questions asked of the dialogues",
        "sources",
        "alignment",
        "fusion rule",
        "steps",
        "merge rules",
        "questions",
    ),
    models=("mean of targets", "linear", "ties", "sce"),
    reference=ArmChoice(axes={"row": "controls/labels"}),
    limits="what each teacher adds to labels of one quality: arms are compared at the same share of wrong labels, never"
    " across shares. A wrong label here is a slip in one word, figure or letter of each answer; errors that a model"
    " would make itself may do other harm. A gain of fused and shuffled targets alike is not the sources' knowledge."
    " Where labels alone make one target, its merges are that target (TIES: less its smallest changes), and SCE, which"
    " keeps what targets disagree about, gives back the pivot: read the other rows there.",
)
