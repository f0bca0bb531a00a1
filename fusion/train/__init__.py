"""Training a pivot checkpoint on conversations, with or without fused targets.

`config.py` holds the settings, `losses.py` the loss and `objectives/` its term from the teacher, `batching.py` the
order and form of batches, `trainer.py` the Hugging Face Trainer around them, `launch.py` the child process in which all
of it runs.  Nothing is imported here, so that settings and launching need no torch.
"""
