"""The studies.  To add one: a file here, a line in STUDIES, a file in conf/study."""

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
