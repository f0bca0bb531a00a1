"""Is it the sources' knowledge?  As many trainings on the same tokens with softer labels, the pivot's own
distributions, the fused ones with the sources' alternatives shuffled, or fewer steps; each arm merged by every rule."""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

STUDY = Study(
    question="Is it the sources' knowledge that helps?",
    claim=Claim(
        "Targets taught by the sources' distributions shuffled, at equal entropy, are worse.",
        source="the papers' explanation of what fusion adds to labels (arXiv 2402.16107, 2408.07990)",
        arm=ArmChoice(model="mean of targets", axes={"row": "controls/shuffled"}),
        expects="worse",
    ),
    held=(
        "dialogues",
        "number of trainings",
        "their seeds and orders",
        "steps (but for half_steps)",
        "learning rate",
        "merge rules",
        "questions",
    ),
    models=("mean of targets", "linear", "task_arithmetic", "ties", "dare", "varm", "sce", "wise_ft"),
    reference=ArmChoice(axes={"row": "controls/fused"}),
    limits="whether fused targets teach more than soft labels, the pivot's own opinion and labels do, before and after"
    " a merge. Each arm is a target per source, trained with seeds that all arms share, so every row is the"
    " mean, or the merge, of as many trainings. Targets of `fused` and `shuffled`"
    " differ in their sources as well, so they disagree more, and a merge has more to choose from. Shuffled"
    " targets take away what sources know about the alternatives and put noise there; a loss against them can"
    " come from either. The smoothing is not matched in entropy. `wise_ft` goes half of the way from the pivot"
    " to the mean of the targets: an arm that it helps moved too far, whoever taught.",
)
