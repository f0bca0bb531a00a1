"""The same answers judged by different judges: does the ranking of the models survive?"""

from ablations.studies.arms import ArmChoice
from ablations.studies.ranking import ranking_table
from ablations.studies.study import Claim, Study

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
)
