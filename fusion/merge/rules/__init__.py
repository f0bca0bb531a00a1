"""The merge rules: one file each, one frozen dataclass, whose fields are the hyperparameters.

    linear.py             the weighted mean
    slerp.py              along the arc between two models
    task_arithmetic.py    the pivot moved along a weighted sum of task vectors
    ties.py               trim, elect a sign, merge what agrees
    dare.py               drop at random, rescale the rest
    varm.py               weighted by how much the parameters moved
    sce.py                select, calculate, erase

To add one: a file here, a line in fusion.merge.MERGE_RULES, a file in conf/merge.
"""
