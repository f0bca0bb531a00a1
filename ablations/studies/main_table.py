"""All rows of FuseChat's first table: sources, ensembles, SFT, Multi, every target, the merged model."""

from ablations.study import Claim, Place, Study

STUDY = Study(
    question="Does the whole recipe pay?",
    claim=Claim(
        "The merged model beats the pivot.",
        source="FuseChat (arXiv 2408.07990), table 1: 7.38 against 6.84 on MT-Bench",
        arm=Place(model="sce"),
    ),
    held=("dialogues", "questions", "judge"),
    models=("sft", "multi", "target-numbers", "target-arithmetic", "target-letters", "linear", "ties", "sce"),
    reference=Place(model="pivot"),
)
