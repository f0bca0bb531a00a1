"""Do the sources teach skills that no label shows?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.carried import shuffled_table
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Does what fusion adds depend on which skills the labels cover?",
    claim=Claim(
        "Where labels cover half of the skills, fused targets are better than labels alone.",
        source="this project: the likely alternatives of a source may show what the labels do not",
        arm=ArmChoice(model="mean of targets", axes={"data.pocket.covered_skills": "0.5", "row": "controls/fused"}),
    ),
    held=("number of dialogues", "share of wrong labels", "sources", "alignment", "fusion rule", "steps", "questions"),
    models=("mean of targets", "linear", "ties", "sce"),
    reference=ArmChoice(axes={"row": "controls/labels"}),
    limits="what each teacher adds to labels that cover the same skills. Questions ask for all skills, so that models"
    " which forget what is not shown lose; dialogues of fewer skills are more alike, which changes with the coverage."
    " Sources are only asked about the dialogues that are there: no teacher speaks of a skill that is left out.",
    also=lambda cells, uncertainty: shuffled_table(cells),
    predictions=(
        Prediction(
            "Where labels cover half of the skills, fused targets are better than labels alone.",
            arm=ArmChoice(model="mean of targets", axes={"data.pocket.covered_skills": "0.5", "row": "controls/fused"}),
            expects="better",
            size=(0.05, 0.6),
            made=_MADE,
        ),
        Prediction(
            "Where they cover all skills, fused targets are better by less.",
            arm=ArmChoice(model="mean of targets", axes={"data.pocket.covered_skills": "1.0", "row": "controls/fused"}),
            expects="better",
            size=(0.0, 0.45),
            made=_MADE,
        ),
    ),
)
