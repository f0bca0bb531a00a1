"""A chat model as an experiment names it: given by somebody, or trained by the project itself (`pocket: {...}`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion.pocket.models import PocketModel
from fusion.runtime import given_model
from fusion.runtime.given_model import GivenModel
from fusion.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class PocketTraining:
    """A tiny chat model trained from scratch on the pocket dialogues: what it is, and how it is trained."""

    model: PocketModel
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig(GivenModel):
    """One entry of conf/model.  Exactly one of `path` and `pocket` is given."""

    pocket: PocketTraining | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.pocket is None):
            raise ValueError(f"model '{self.label}' needs exactly one of path and pocket")
        if self.pocket is not None and (self.chat_template or self.chat_template_kwargs):
            raise ValueError(
                f"model '{self.label}' is trained with a chat template of its own: expected none to put on"
            )


def named_models(
    names: Sequence[str], mounted: Mapping[str, Any], *, folder: str | None = None
) -> dict[str, ModelConfig]:
    """What each name of an experiment stands for (`fusion.runtime.given_model`)."""
    return given_model.named_models(names, mounted, ModelConfig, folder=folder)
