"""Cross-entropy against the fused distribution, or Kullback-Leibler divergence from it?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Which fusion objective?",
    claim=Claim(
        "Both objectives have the same gradient, so they train the same model.",
        source="arithmetic: KL is cross-entropy less the target's entropy, which has no gradient",
        arm=ArmChoice(model="mean of targets", axes={"train.objective": "kl"}),
        expects="equal",
        margin={"rating": 0.1, "percent": 2.0, "share": 0.02},
    ),
    held=("dialogues", "sources", "alignment", "fusion rule", "questions"),
    models=("mean of targets", "sce"),
    reference=ArmChoice(axes={"train.objective": "ce"}),
    limits="whether this program trains the same under both names, up to rounding: an interval within the margin says"
    " so. Where both answer every question alike there is no interval, and nothing is said beyond these runs.",
    predictions=(
        Prediction(
            "Cross-entropy and Kullback-Leibler divergence train the same targets but for rounding.",
            arm=ArmChoice(model="mean of targets", axes={"train.objective": "kl"}),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
    ),
)
