"""Sources added one by one: a new source trains one more target and leaves the others as they are."""

from ablations.studies.arms import ArmChoice
from ablations.studies.study import Claim, Study

STUDY = Study(
    question="Does every further source help?",
    claim=Claim(
        "More sources make a better merged model.",
        source="FuseChat (arXiv 2408.07990), on scalability by plug and play",
        arm=ArmChoice(model="linear", axes={"source_count": "3"}),
    ),
    held=("dialogues", "pivot", "alignment", "training of each target", "questions"),
    models=("linear", "ties", "multi"),
    reference=ArmChoice(axes={"source_count": "1"}),
    limits="sources in one order, so that how many and which they are change together. Another order may rank them"
    " otherwise. SCE is left out: it keeps what targets disagree about, so of one target it makes the pivot.",
)
