"""Sequence aligners: which positions of two tokenizations of one text belong together."""
