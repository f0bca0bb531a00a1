"""All rows of FuseChat's first table: sources, ensembles, SFT, Multi, every target, the merged model."""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

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
)
