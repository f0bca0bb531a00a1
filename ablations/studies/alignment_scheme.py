"""How should the tokens of two tokenizers be matched?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

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
    predictions=(
        Prediction(
            "Exact byte offsets, which carry all of a source's mass, are better than exact match.",
            arm=ArmChoice(model="mean of targets", axes={"align": "byte_span"}),
            expects="better",
            size=(0.0, 0.15),
            made=_MADE,
        ),
        Prediction(
            "Mapping statistics are within a tenth of exact match.",
            arm=ArmChoice(model="mean of targets", axes={"align": "ms"}),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
        Prediction(
            "Mined spans are within a tenth of exact match.",
            arm=ArmChoice(model="mean of targets", axes={"align": "mined"}),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
    ),
)
