"""Pairwise knowledge fusion of chat LLMs and merging of the targets: from dialogues to one merged checkpoint."""
