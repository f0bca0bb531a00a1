"""From questions to answers: the stages that need a model under test.

In reading order:

    candidate.py       what is evaluated: a checkpoint and its row in the table
    collect.py         the answers to a benchmark's questions; only what is missing is asked
    work.py            how much work answers are, and what stands in for them in a plan
    stages.py          answers and lm-eval's measurements as artifacts, each computed once
    by_ensembles.py    what ensembles compute with checkpoints: perplexities, answers of several models at once
"""
