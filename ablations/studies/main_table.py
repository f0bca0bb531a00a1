"""All rows of FuseChat's first table: sources, ensembles, SFT, Multi, every target, the merged model."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Does the whole recipe pay?",
    claim=Claim(
        "The merged model beats the pivot.",
        source="FuseChat (arXiv 2408.07990), table 1: 7.38 against 6.84 on MT-Bench",
        arm=ArmChoice(model="sce"),
    ),
    held=("dialogues", "questions", "judge"),
    groups=("Sources", "Ensembles", "Baselines", "Targets", "Merged"),
    reference=ArmChoice(model="pivot"),
    limits="whether all stages together pay for these models and this judge. Which stage earns it is for the other"
    " studies (controls, merge_rule): SFT and Multi are one training each here, merged models are made of one for each"
    " source, and averaging alone helps. Top1-LLM-Blender is not among the ensembles: its ranker is not run here.",
    predictions=(
        Prediction(
            "The plain mean of the targets beats the pivot.",
            arm=ArmChoice(model="linear"),
            expects="better",
            size=(0.1, 0.4),
            made=_MADE,
        ),
        Prediction(
            "SCE beats the pivot by less, for it leaves most of the weights where they were.",
            arm=ArmChoice(model="sce"),
            expects="better",
            size=(0.03, 0.25),
            made=_MADE,
        ),
        Prediction(
            "Fine-tuning on half wrong labels does not help the pivot.",
            arm=ArmChoice(model="sft"),
            expects="worse",
            size=(-0.4, 0.0),
            made=_MADE,
        ),
    ),
)
