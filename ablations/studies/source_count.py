"""Sources added one by one: a new source trains one more target and leaves the others as they are."""

from ablations.study import Claim, Place, Study

STUDY = Study(
    question="Does every further source help?",
    claim=Claim(
        "More sources make a better merged model.",
        source="FuseChat (arXiv 2408.07990), on scalability by plug and play",
        arm=Place(model="sce", axes={"sources": "[pocket_numbers,pocket_arithmetic,pocket_letters]"}),
    ),
    held=("dialogues", "pivot", "alignment", "training of each target", "questions"),
    models=("sce", "linear"),
    reference=Place(axes={"sources": "[pocket_numbers]"}),
)
