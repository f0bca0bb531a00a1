"""How much should the labels weigh beside the fused distributions?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Which loss weight lambda?",
    claim=Claim(
        "Fusion with lambda 0.9 is better than fine-tuning on the labels alone.",
        source="FuseChat (arXiv 2408.07990), where lambda is 0.9",
        arm=ArmChoice(model="mean of targets", axes={"train.lm_weight": "0.9"}),
    ),
    held=("dialogues", "sources", "alignment", "fusion rule", "steps", "questions"),
    models=("mean of targets", "linear", "sce"),
    reference=ArmChoice(axes={"train.lm_weight": "1.0"}),
    limits="the best weight at this learning rate and number of steps; another schedule may prefer another. At weight 1"
    " targets differ in the order of the dialogues alone, below it in their sources too, so what merging adds there is"
    " what averaging any trainings adds.",
    predictions=(
        Prediction(
            "At 0.9 fusion adds a little to labels alone.",
            arm=ArmChoice(model="mean of targets", axes={"train.lm_weight": "0.9"}),
            expects="better",
            size=(0.0, 0.15),
            made=_MADE,
        ),
        Prediction(
            "At 0.1 it adds most of what it can.",
            arm=ArmChoice(model="mean of targets", axes={"train.lm_weight": "0.1"}),
            expects="better",
            size=(0.1, 0.5),
            made=_MADE,
        ),
        Prediction(
            "Without the labels' own loss it adds as much or more.",
            arm=ArmChoice(model="mean of targets", axes={"train.lm_weight": "0.0"}),
            expects="better",
            size=(0.1, 0.6),
            made=_MADE,
        ),
    ),
)
