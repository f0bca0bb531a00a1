"""Training a pivot checkpoint on conversations, with or without fused targets.

    config.py       the settings of one run
    losses.py       the loss on sparse targets
    objectives/     its term from the teacher, one file each
    head.py         from hidden states to the loss, a few rows of logits at a time
    batching.py     the order of rows, and the batches made of them, packed where that is asked for
    journal.py      what a run leaves on disk while it works
    trainer.py      the Hugging Face Trainer around them
    run.py          one run from start to finish, inside its process
    launch.py       that process, started and waited for
    stage.py        as a stage of the pipeline

Nothing is imported here, so that settings and launching need no torch.
"""
