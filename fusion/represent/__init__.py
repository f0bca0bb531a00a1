"""Representations: what a model predicts at every labelled token of every conversation, kept as its k likeliest tokens.

`represent` runs a checkpoint over conversations by teacher forcing and writes shards; `open_representation` reads them
back one conversation at a time.

    checkpoint.py         a checkpoint's tokenizer and model, loaded whole or refused
    teacher_forcing.py    the forward passes
    shards.py             what they leave on disk
    representation.py     what is read back
    stage.py              as a stage of the pipeline
"""

from fusion.represent.representation import Representation, RowRepresentation, open_representation
from fusion.represent.teacher_forcing import RepresentConfig, represent

__all__ = ["RepresentConfig", "Representation", "RowRepresentation", "open_representation", "represent"]
