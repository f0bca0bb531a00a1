"""Sources added one by one: a new source trains one more target and leaves the others as they are."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

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
    predictions=(
        Prediction(
            "Three sources merged by the plain mean are better than the one for numbers.",
            arm=ArmChoice(model="linear", axes={"source_count": "3"}),
            expects="better",
            size=(0.0, 0.35),
            made=_MADE,
        ),
        Prediction(
            "Two lie between.",
            arm=ArmChoice(model="linear", axes={"source_count": "2"}),
            expects="better",
            size=(0.0, 0.3),
            made=_MADE,
        ),
    ),
)
