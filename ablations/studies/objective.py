"""Cross-entropy against the fused distribution, or Kullback-Leibler divergence from it?"""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

STUDY = Study(
    question="Which fusion objective?",
    claim=Claim(
        "Both objectives have the same gradient, so they train the same model.",
        source="arithmetic: KL is cross-entropy less the target's entropy, which has no gradient",
        arm=ArmChoice(model="mean of targets", axes={"train.objective": "kl"}),
        expects="equal",
    ),
    held=("dialogues", "sources", "alignment", "fusion rule", "questions"),
    models=("mean of targets", "sce"),
    reference=ArmChoice(axes={"train.objective": "ce"}),
    limits="whether this program trains the same under both names, up to rounding. No"
    " significance is no equality: the interval says how large a difference is left.",
)
