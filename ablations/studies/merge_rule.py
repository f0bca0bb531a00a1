"""Which merge rule?  All rules on the same targets, each beside the plain mean."""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

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
    " when tuned, and one that was tuned has an advantage over defaults, as SCE has in the pocket experiment, where its"
    " share was chosen on validation questions. The best of seven on the same questions looks better than it is.",
)
