"""Positions and vocabularies are two choices: which of them makes the difference?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="Does the sequence aligner matter, or the vocabulary map?",
    claim=Claim(
        "Exact positions with strings mapped exactly are better than the papers' warping with edit distance.",
        source="this project: the audit finds positions that warping gets wrong",
        arm=ArmChoice(model="mean of targets", axes={"align.aligner": "byte_span", "align.vocabulary_map": "string"}),
    ),
    held=("dialogues", "sources", "fusion rule", "training", "questions"),
    models=("mean of targets", "sce"),
    reference=ArmChoice(axes={"align.aligner": "token_dtw", "align.vocabulary_map": "min_edit_distance"}),
    limits="how aligner and map act together on targets of this pivot. Both act through the fused distributions"
    " alone, so at a high lm_weight little can show; the audit (python -m fusion.align) measures alignment"
    " itself.",
    predictions=(
        Prediction(
            "Exact positions and strings are a little better than warping and edit distance.",
            arm=ArmChoice(
                model="mean of targets", axes={"align.aligner": "byte_span", "align.vocabulary_map": "string"}
            ),
            expects="better",
            size=(0.0, 0.2),
            made=_MADE,
        ),
        Prediction(
            "Positions alone make the difference: with the same map, exact ones are better than warped ones.",
            arm=ArmChoice(
                model="mean of targets",
                axes={"align.aligner": "byte_span", "align.vocabulary_map": "min_edit_distance"},
            ),
            expects="better",
            size=(0.0, 0.2),
            made=_MADE,
        ),
    ),
)
