"""The same answers judged by different judges: does the ranking of the models survive?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.ranking import ranking_table
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Does the judge decide the ranking?",
    claim=Claim(
        "The merged model beats the pivot, whoever judges.",
        source="FuseChat's two papers say it (arXiv 2402.16107, 2408.07990), each by another version of GPT-4",
        arm=ArmChoice(model="sce"),
    ),
    held=("all models", "all answers", "questions"),
    groups=("Sources", "Baselines", "Targets", "Merged"),
    reference=ArmChoice(model="pivot"),
    limits="whether these judges agree about these models. Judges that go by one known answer share its errors, so"
    " their agreement says little about judges that read for themselves; ratings of two judges share no unit, so only"
    " orders and signs are compared.",
    also=ranking_table,
    predictions=(
        Prediction(
            "A judge that asks for the exact answer puts SCE above the pivot too.",
            arm=ArmChoice(model="sce", axes={"judge": "reference_exact"}),
            expects="better",
            size=(0.0, 0.2),
            made=_MADE,
        ),
        Prediction(
            "A judge that looks for the answer anywhere does so too.",
            arm=ArmChoice(model="sce", axes={"judge": "reference_contains"}),
            expects="better",
            size=(0.0, 0.2),
            made=_MADE,
        ),
    ),
)
