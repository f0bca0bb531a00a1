"""Is it the sources' knowledge?  The same tokens and steps with softer labels, the pivot's own distributions, and the
fused distributions with the sources' alternatives shuffled."""

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
    held=("dialogues", "tokens", "steps", "learning rate", "merge rules", "questions"),
    models=("mean of targets", "multi", "linear"),
    reference=ArmChoice(axes={"row": "controls/fused"}),
    limits="whether fused targets teach more than soft labels, the pivot's own opinion and labels do. Shuffled targets"
    " take away what sources know about the alternatives and put noise there; a loss against them can come from either."
    " The smoothing is not matched in entropy. All but `fused` and `shuffled` give one target for all sources, so that"
    " merging adds nothing to them; SCE, which keeps what targets disagree about, would give back the pivot.",
)
