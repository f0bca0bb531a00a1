"""Alignment: a source model's distributions carried to the pivot's token positions and the pivot's ids."""
