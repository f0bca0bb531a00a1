"""Merging whole checkpoints with bounded memory."""
