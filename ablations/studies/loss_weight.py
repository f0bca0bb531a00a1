"""How much should the labels weigh beside the fused distributions?"""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

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
)
