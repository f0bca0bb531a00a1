"""Every model as the pivot in turn, the others as its sources."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Which model should be the pivot?",
    claim=Claim(
        "A specialist in the pivot's place makes a worse merged model than the generalist.",
        source="our expectation: a target starts as a copy of its pivot",
        arm=ArmChoice(model="sce"),
        expects="worse",
    ),
    held=("the set of models", "dialogues", "alignment", "fusion rule", "steps", "questions"),
    models=("pivot", "sft", "mean of targets", "linear", "sce"),
    reference=ArmChoice(axes={"pivot_choice": "0"}),
    limits="which of these models to start from. The pivot also brings its tokenizer, size and skill, which change"
    " together; compare the rows of the merged models with the row of the pivots themselves before crediting fusion.",
    predictions=(
        Prediction(
            "With the specialist for numbers as the pivot the merged model is worse.",
            arm=ArmChoice(model="sce", axes={"pivot_choice": "1"}),
            expects="worse",
            size=(-1.2, -0.1),
            made=_MADE,
        ),
        Prediction(
            "With the one for arithmetic too.",
            arm=ArmChoice(model="sce", axes={"pivot_choice": "2"}),
            expects="worse",
            size=(-1.0, 0.0),
            made=_MADE,
        ),
        Prediction(
            "With the one for letters too.",
            arm=ArmChoice(model="sce", axes={"pivot_choice": "3"}),
            expects="worse",
            size=(-0.8, 0.0),
            made=_MADE,
        ),
    ),
)
