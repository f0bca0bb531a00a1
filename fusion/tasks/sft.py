"""Supervised fine-tuning: the labels are everything."""

from __future__ import annotations

from dataclasses import replace

from fusion.tasks.learner import Learner, Task, Taught
from fusion.train.config import TrainConfig


class Sft(Task):
    """Learns the labels; one run serves every sweep over what only the fusion term reads."""

    def teacher(self, learner: Learner, made: Taught) -> None:
        """Nobody."""

    def settings(self, train: TrainConfig) -> TrainConfig:
        """All weight on the labels, and the fusion term's own settings as they stand by default."""
        plain = TrainConfig()
        return replace(train, lm_weight=1.0, objective=plain.objective, temperature=plain.temperature, tail=plain.tail)
