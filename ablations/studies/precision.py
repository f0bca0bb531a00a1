"""Training in fp32, with bf16 arithmetic, or with bf16 weights, and merges rounded to bf16: what that does to task
vectors and scores."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.deltas import precision_tables
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Does the precision of training and of merging matter?",
    claim=Claim(
        "With pure bf16 weights small updates are lost, and the targets are worse.",
        source="arithmetic: bf16 has 8 significant bits; FuseChat's released training is pure bf16",
        arm=ArmChoice(model="mean of targets", axes={"row": "precision/bf16_pure"}),
        expects="worse",
    ),
    held=("dialogues", "sources", "fused targets", "steps", "learning rate", "questions", "pivots stored in bf16"),
    models=("sft", "mean of targets", "linear", "sce"),
    reference=ArmChoice(axes={"row": "precision/fp32"}),
    limits="precision at this learning rate. What bf16 loses depends on the size of a step beside the size of a weight:"
    " at 100 times smaller steps, as for 7B models, far more vanishes, from a merge too, so a rounded merge that cannot"
    " be told from the unrounded one here may do worse there: the second table says how much of the update was left to"
    " be judged. Rows that round merges alone leave SFT and the targets as they are. What rounding at each step of pure"
    " bf16 training loses shows in the first table only.",
    also=precision_tables,
    predictions=(
        Prediction(
            "Pure bf16 weights lose small updates, and the targets are as good within 0.15.",
            arm=ArmChoice(model="mean of targets", axes={"row": "precision/bf16_pure"}),
            expects="equal",
            size=(-0.15, 0.15),
            made=_MADE,
        ),
        Prediction(
            "bf16 arithmetic over fp32 weights is as good within 0.05.",
            arm=ArmChoice(model="mean of targets", axes={"row": "precision/bf16_mixed"}),
            expects="equal",
            size=(-0.05, 0.05),
            made=_MADE,
        ),
        Prediction(
            "Rounding the merge to bf16 moves no score by more than 0.03.",
            arm=ArmChoice(model="linear", axes={"row": "precision/merged_bf16"}),
            expects="equal",
            size=(-0.03, 0.03),
            made=_MADE,
        ),
    ),
)
