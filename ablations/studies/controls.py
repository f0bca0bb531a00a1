"""Is it the sources' knowledge?  As many trainings on the same tokens with softer labels, the pivot's own
distributions, the fused ones with the sources' alternatives shuffled, or fewer steps; each arm merged by every rule."""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.carried import shuffled_table
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)


def _of(row: str, model: str = "linear") -> ArmChoice:
    return ArmChoice(model=model, axes={"row": f"controls/{row}"})


STUDY = Study(
    question="Is it the sources' knowledge that helps?",
    claim=Claim(
        "Targets taught by the sources' distributions shuffled, at equal entropy, are worse.",
        source="the papers' explanation of what fusion adds to labels (arXiv 2402.16107, 2408.07990)",
        arm=ArmChoice(model="mean of targets", axes={"row": "controls/shuffled"}),
        expects="worse",
    ),
    held=(
        "dialogues",
        "number of trainings",
        "their seeds and orders",
        "steps (but for half_steps)",
        "learning rate",
        "merge rules",
        "questions",
    ),
    models=("mean of targets", "linear", "task_arithmetic", "ties", "dare", "varm", "sce", "wise_ft"),
    reference=ArmChoice(axes={"row": "controls/fused"}),
    limits="whether fused targets teach more than soft labels, the pivot's own opinion and labels do, before and after"
    " a merge. Each arm is a target per source, trained with seeds that all arms share, so every row is the"
    " mean, or the merge, of as many trainings. Targets of `fused` and `shuffled`"
    " differ in their sources as well, so they disagree more, and a merge has more to choose from. Shuffled"
    " targets take away what sources know about the alternatives and put noise there; a loss against them can"
    " come from either. The smoothing is not matched in entropy. `wise_ft` goes half of the way from the pivot"
    " to the mean of the targets: an arm that it helps moved too far, whoever taught.",
    also=lambda cells, uncertainty: shuffled_table(cells),
    predictions=(
        Prediction(
            "Before any merge, labels alone are worse than fused targets.",
            arm=_of("labels", "mean of targets"),
            expects="worse",
            size=(-0.45, -0.15),
            made=_MADE,
        ),
        Prediction(
            "Merged by the plain mean, as many trainings on labels alone are worse: it is not the averaging.",
            arm=_of("labels"),
            expects="worse",
            size=(-0.5, -0.15),
            made=_MADE,
        ),
        Prediction(
            "Merged, the pivot's own distributions are worse: it is not that the targets are soft.",
            arm=_of("self_distillation"),
            expects="worse",
            size=(-0.35, -0.05),
            made=_MADE,
        ),
        Prediction(
            "Merged, shuffled alternatives are worse: it is what the sources name.",
            arm=_of("shuffled"),
            expects="worse",
            size=(-0.35, -0.05),
            made=_MADE,
        ),
        Prediction(
            "Merged, smoothed labels are worse, as plain ones are.",
            arm=_of("label_smoothing"),
            expects="worse",
            size=(-0.5, -0.15),
            made=_MADE,
        ),
        Prediction(
            "Half of the steps give up a part of the gain.",
            arm=_of("fused_half_steps"),
            expects="worse",
            size=(-0.2, 0.0),
            made=_MADE,
        ),
    ),
)
