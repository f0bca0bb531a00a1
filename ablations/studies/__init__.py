"""The studies.  To add one: a file here, a line in STUDIES, a file in conf/study.

    study.py       what a study is: a question, a claim, what is held fixed, the comparison that answers it
    pooling.py     cells put together: seeds pooled, models named by the axes that change them
    replication.py what runs are draws of, and what intervals over them cover, in words
    arms.py        one model under one setting of the axes
    measures.py    what models are compared by
    findings.py    what a study found, as files
    ranking.py     whether two settings put the models in the same order
    deltas.py      what training changed in the weights, and how much of it bf16 can hold

Every other file is one study.
"""

from ablations.studies import (
    aligner_by_map,
    alignment_scheme,
    controls,
    data_size,
    fusion_rule,
    judge_choice,
    loss_weight,
    main_table,
    merge_rule,
    objective,
    pivot_choice,
    precision,
    sce_steps,
    source_count,
    varm_granularity,
)
from ablations.studies.study import Study

STUDIES: dict[str, Study] = {
    "main_table": main_table.STUDY,
    "merge_rule": merge_rule.STUDY,
    "sce_steps": sce_steps.STUDY,
    "varm_granularity": varm_granularity.STUDY,
    "alignment_scheme": alignment_scheme.STUDY,
    "aligner_by_map": aligner_by_map.STUDY,
    "fusion_rule": fusion_rule.STUDY,
    "objective": objective.STUDY,
    "loss_weight": loss_weight.STUDY,
    "source_count": source_count.STUDY,
    "pivot_choice": pivot_choice.STUDY,
    "data_size": data_size.STUDY,
    "precision": precision.STUDY,
    "judge_choice": judge_choice.STUDY,
    "controls": controls.STUDY,
}
