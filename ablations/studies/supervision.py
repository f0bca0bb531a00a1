"""Two papers of 2026 contradict each other: is what strict matching discards worth recovering, or does it harm?"""

from datetime import date

from ablations.studies.arms import ArmChoice
from ablations.studies.carried import carried_table
from ablations.studies.prediction import Prediction
from ablations.studies.study import Claim, Study

_MADE = date(2026, 11, 26)

STUDY = Study(
    question="How much of a source should be carried over?",
    claim=Claim(
        "Tokens that both models cut and spell alike teach better than everything that can be carried over (arXiv"
        " 2605.07711 and 2607.22334 claim the opposite).",
        source="arXiv 2610.08448",
        arm=ArmChoice(model="mean of targets", axes={"row": "supervision/strict"}),
    ),
    held=("dialogues", "sources", "fusion rule", "training", "questions"),
    models=("mean of targets", "multi", "linear"),
    reference=ArmChoice(axes={"row": "supervision/everything"}),
    limits="whether more of a source's distributions teaches better, where they are taught beside labels, offline and"
    " by this project's alignment. It does not compare the papers' methods: a source's position that begins inside a"
    " token of the pivot, or the other way round, is carried by no arm, and what an arm leaves out is taught by the"
    " label, or by the pivot where too little of a position's mass arrives. Labels alone read no source, so that with"
    " and without the pivot they are one training. Where tokenizers cut alike the arms are alike: the table says by how"
    " much they differ.",
    also=lambda cells, uncertainty: carried_table(cells),
    predictions=(
        Prediction(
            "With the pivot as a candidate, labels alone are worse than everything.",
            arm=ArmChoice(model="mean of targets", axes={"row": "supervision/labels", "fuse.fuse_with_pivot": "true"}),
            expects="worse",
            size=(-0.45, -0.1),
            made=_MADE,
        ),
        Prediction(
            "With the pivot as a candidate, strict positions are a little worse than everything.",
            arm=ArmChoice(model="mean of targets", axes={"row": "supervision/strict", "fuse.fuse_with_pivot": "true"}),
            expects="worse",
            size=(-0.2, 0.0),
            made=_MADE,
        ),
        Prediction(
            "Without it, strict positions are worse than everything: labels fill the gaps, and half are wrong.",
            arm=ArmChoice(model="mean of targets", axes={"row": "supervision/strict", "fuse.fuse_with_pivot": "false"}),
            expects="worse",
            size=(-0.3, 0.0),
            made=_MADE,
        ),
        Prediction(
            "Shared starts are within a tenth of everything, since most mass lies there.",
            arm=ArmChoice(model="mean of targets", axes={"row": "supervision/shared", "fuse.fuse_with_pivot": "true"}),
            expects="equal",
            size=(-0.1, 0.1),
            made=_MADE,
        ),
    ),
)
