"""Training in fp32, with bf16 arithmetic, or with bf16 weights, and what that does to the task vectors."""

from ablations.deltas import precision_table
from ablations.study import ArmChoice, Claim, Study

STUDY = Study(
    question="Does the precision of training matter?",
    claim=Claim(
        "With pure bf16 weights small updates are lost, and the targets are worse.",
        source="arithmetic: bf16 has 8 significant bits; FuseChat's released training is pure bf16",
        arm=ArmChoice(model="mean of targets", axes={"train.precision": "bf16_pure"}),
        expects="worse",
    ),
    held=("dialogues", "sources", "fused targets", "steps", "learning rate", "questions"),
    models=("sft", "mean of targets", "linear", "sce"),
    reference=ArmChoice(axes={"train.precision": "fp32"}),
    limits="precision at this learning rate. What bf16 loses depends on the size of a step beside the size of a weight:"
    " at 100 times smaller steps, as for 7B models, far more vanishes. An fp32 pivot is also rounded before pure bf16"
    " training begins, which the norm counts and the column in bf16 does not.",
    also=precision_table,
)
