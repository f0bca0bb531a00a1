"""Vocabulary maps: which pivot id a source id stands for."""
