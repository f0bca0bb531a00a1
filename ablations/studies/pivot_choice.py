"""Every model as the pivot in turn, the others as its sources."""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

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
)
