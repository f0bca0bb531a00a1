"""Merging whole checkpoints with bounded memory.

In reading order:

    shards.py               safetensors shards, read and written tensor by tensor
    roles.py                what a parameter is by its name: embeddings, head, layer, mere buffer
    checkpoint_files.py     what belongs to a checkpoint beside its weights
    adapters.py             a LoRA adapter and its base as one checkpoint
    same_kind.py            whether a target is of the pivot's kind: family, settings, tokenizer
    checkpoint_plan.py      what is merged with what, checked before a weight is read
    stochastic.py           rounding up or down at random, so that the mean is kept
    coefficients.py         what the merge did to each parameter, as a table
    checkpoint_stream.py    the merge itself, one parameter at a time
"""
