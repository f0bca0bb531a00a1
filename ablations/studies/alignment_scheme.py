"""How should the tokens of two tokenizers be matched?"""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

STUDY = Study(
    question="Which alignment scheme?",
    claim=Claim(
        "Mapping statistics align better than exact match.",
        source="FuseChat (arXiv 2408.07990)",
        arm=ArmChoice(model="mean of targets", axes={"align": "ms"}),
    ),
    held=("dialogues", "sources", "fusion rule", "training", "questions"),
    models=("mean of targets", "sce"),
    reference=ArmChoice(axes={"align": "em"}),
    limits="whether a scheme makes better targets for these tokenizers. It does not say which aligns more positions"
    " rightly, which the audit (python -m fusion.align) counts without training.",
)
