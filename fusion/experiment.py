"""The typed config of an experiment up to its merged checkpoints, made from what Hydra composed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fusion.align import AlignConfig
from fusion.conversations.conversation import DataConfig
from fusion.fuse import FUSION_RULES, FusionRule
from fusion.merge import MERGE_RULES, MergeRule
from fusion.models import ModelConfig, named_models
from fusion.pocket.dialogues import PocketData
from fusion.represent import RepresentConfig
from fusion.runtime.artifacts import Reuse
from fusion.runtime.command import group_entry
from fusion.runtime.configure import Refusal, choose, typed
from fusion.runtime.precision import LostUpdate, MergedConfig
from fusion.tasks.learner import Learner
from fusion.train.config import TrainConfig
from fusion.train.objectives import OBJECTIVES

TeacherChoice = Literal["fused", "pivot", "shuffled"]
_BASELINES = ("sft", "multi")
# The task (fusion.tasks) by which targets and Multi learn from each teacher.
_TEACHES: Mapping[TeacherChoice, str] = {"fused": "fusion", "pivot": "self_distillation", "shuffled": "shuffled"}


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Everything the stages up to the merged checkpoints depend on."""

    name: str
    seed: int
    lanes: int
    pivot: str  # an entry of `models`, by its name in conf/model, its path or its name on the hub
    sources: tuple[str, ...]  # entries of `models`
    models: Mapping[str, ModelConfig]
    data: DataConfig | PocketData  # files, or the pocket generator
    data_share: float  # of the fusion dialogues that `data` describes; more than 1 only of dialogues that are generated
    represent: RepresentConfig
    align: AlignConfig
    fuse: FusionRule
    # Whose distributions the targets learn: the `fused` ones, or for controls the `pivot`'s own (self-distillation) or
    # the fused ones `shuffled` (fusion.fuse.shuffle)
    teacher: TeacherChoice
    train: TrainConfig
    merge: Mapping[str, MergeRule]  # rules by the merged model's name
    merged: MergedConfig  # how all merged models are written
    lost_update: LostUpdate  # what is done where rounding weights loses more than a hundredth of what training changed
    baselines: tuple[str, ...]
    artifacts: Path
    reuse: Reuse = "warn"

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(
                "sources is empty: name a model besides the pivot, as an entry of conf/model, ./DIR or OWNER/NAME"
            )
        if len({self.models[name].label for name in self.sources}) < len(self.sources):
            raise ValueError("two sources carry the same label; labels name the rows of the table")
        if self.pivot in self.sources:
            raise ValueError(f"the pivot {self.pivot} is among the sources: fusing a model with itself teaches nothing")
        if self.data_share <= 0 or (self.data_share > 1 and isinstance(self.data, DataConfig)):
            raise ValueError(f"data_share is {self.data_share}: expected more than 0, and of files at most 1")
        for name in self.baselines:
            if name not in _BASELINES:
                raise ValueError(f"baseline {name!r}: valid names are {' and '.join(_BASELINES)}")

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The rows that are trained from the pivot: the baselines, then a target per source.

        Targets of one number are trained with one seed whoever teaches, so that controls are as many trainings as the
        fused targets, in the same orders; the baselines are with the first target's.
        Where all weight lies on the labels no teacher is read, so every learner is fine-tuned on them.
        """
        taught = "sft" if self.train.lm_weight == 1 else _TEACHES[self.teacher]
        known = {
            "sft": Learner(row="sft", group="Baselines", role="sft", task="sft"),
            "multi": Learner(row="multi", group="Baselines", role="multi", task=taught, sources=self.sources),
        }
        targets = (
            Learner(
                row=f"target-{self.models[name].label}",
                group="Targets",
                role="target",
                task=taught,
                sources=(name,),
                repeat=repeat,
            )
            for repeat, name in enumerate(self.sources)
        )
        return (*(known[name] for name in self.baselines), *targets)

    @property
    def reads_further(self) -> str | None:
        """What comes of training on more of a conversation than its teachers read; None where it does not."""
        read, trained = self.represent.max_length, self.train.max_length
        if self.train.lm_weight == 1 or trained <= read:
            return None
        return (
            f"represent.max_length={read} is less than train.max_length={trained}: what lies behind {read} tokens of a"
            " conversation has no fused target and is learned as labels alone; give both the same"
        )


@dataclass(frozen=True, kw_only=True)
class _Named:
    """The settings that are not groups.

    `pivot_choice` n lets the pivot and the n-th source change places, 0 none; `source_count` keeps the first so many
    sources.  So a study varies either without knowing any model's name.  `draw`: which draw of the models that
    are trained from scratch and of generated dialogues; `pocket_dtype`: in which such models are saved, if not as their
    entries have it; `steps_share`: the share taken of the steps of what is trained from the pivot.
    """

    name: str
    seed: int
    draw: int = 0
    lanes: int
    pivot: str
    sources: tuple[str, ...]
    baselines: tuple[str, ...]
    teacher: TeacherChoice = "fused"
    pivot_choice: int = 0
    source_count: int | None = None
    data_share: float = 1.0
    steps_share: float = 1.0
    lost_update: LostUpdate = "warn"
    pocket_dtype: Literal["float32", "bfloat16"] | None = None
    reuse: Reuse = "warn"

    def __post_init__(self) -> None:
        if self.draw < 0:
            raise ValueError(f"draw is {self.draw}: expected 0 or more")
        if not self.steps_share > 0:
            raise ValueError(f"steps_share is {self.steps_share}: expected more than 0")

    def roles(self) -> tuple[str, tuple[str, ...]]:
        """The pivot and the sources.  Raises Refusal for a source that is not there."""
        models = [self.pivot, *self.sources]
        for name, lowest in (("pivot_choice", 0), ("source_count", 1)):
            value = getattr(self, name)
            if value is not None and self.sources and not lowest <= value <= len(self.sources):
                every = ",".join(str(known) for known in range(lowest, len(self.sources) + 1))
                raise Refusal(
                    f"{name} is {value}: expected {lowest} to {len(self.sources)}, the number of sources; a sweep over"
                    f" all is {name}={every}"
                )
        models[0], models[self.pivot_choice] = models[self.pivot_choice], models[0]
        return models[0], tuple(models[1:])[: self.source_count]


def fusion_config(settings: Mapping[str, Any]) -> FusionConfig:
    """The typed config from what Hydra composed; `pivot` and `sources` are looked up by fusion.models.named_models.

    Raises Refusal for a name no table knows, an unknown or mistyped key, or a value out of range.
    """
    names = [field.name for field in dataclasses.fields(_Named)]
    named = typed({key: settings[key] for key in names if key in settings}, _Named)
    pivot, sources = named.roles()
    given = named_models((pivot, *sources), settings.get("model") or {}, folder=settings["paths"]["models"])
    models = {name: _drawn(named.draw, _stored_in(named.pocket_dtype, model)) for name, model in given.items()}
    if not isinstance(settings.get("data"), Mapping):
        raise Refusal("data is not chosen: expected data=NAME, an entry of conf/data")
    data = _data(settings["data"], named)
    if named.draw and isinstance(data, DataConfig) and all(model.pocket is None for model in models.values()):
        raise Refusal(
            f"draw is {named.draw}, and nothing here is drawn: no model is trained from scratch and no dialogues are"
            " generated; leave draw at 0 and vary seed, which is another fine-tuning"
        )
    merges = settings.get("merge") or {}
    try:
        return FusionConfig(
            name=named.name,
            seed=named.seed,
            lanes=named.lanes,
            pivot=pivot,
            sources=sources,
            baselines=named.baselines,
            teacher=named.teacher,
            models=models,
            data=data,
            data_share=named.data_share,
            reuse=named.reuse,
            represent=typed(settings.get("represent") or {}, RepresentConfig, at="represent"),
            align=typed(settings.get("align") or {}, AlignConfig, at="align"),
            fuse=choose(FUSION_RULES, settings.get("fuse") or {}, at="fuse"),
            train=_shortened(_train(settings.get("train") or {}), named.steps_share),
            merge={
                name: choose(MERGE_RULES, rule, at=f"merge.{name}")
                for name, rule in merges.items()
                if "name" in rule  # else an experiment's settings for a rule that was not chosen
            },
            merged=typed(settings.get("merged") or {}, MergedConfig, at="merged"),
            lost_update=named.lost_update,
            artifacts=Path(settings["paths"]["artifacts"]).expanduser(),
        )
    except ValueError as error:
        raise Refusal(str(error)) from error


def _stored_in(dtype: Literal["float32", "bfloat16"] | None, model: ModelConfig) -> ModelConfig:
    if dtype is None or model.pocket is None:
        return model
    train = dataclasses.replace(model.pocket.train, save_dtype=dtype)
    return dataclasses.replace(model, pocket=dataclasses.replace(model.pocket, train=train))


def _drawn(draw: int, model: ModelConfig) -> ModelConfig:
    """Another initialisation, order of the dialogues and course of training for each draw; 0 is as the entry has it."""
    if model.pocket is None:
        return model
    start = dataclasses.replace(model.pocket.model, seed=model.pocket.model.seed + draw)
    train = dataclasses.replace(model.pocket.train, seed=model.pocket.train.seed + draw)
    return dataclasses.replace(model, pocket=dataclasses.replace(model.pocket, model=start, train=train))


def _train(settings: Mapping[str, Any]) -> TrainConfig:
    """The settings of training; an objective's name alone stands for its entry in conf/objective."""
    objective = settings.get("objective", "ce")
    if isinstance(objective, str):
        objective = group_entry("objective", objective)
    return typed(
        {**settings, "objective": choose(OBJECTIVES, objective, at="train.objective")}, TrainConfig, at="train"
    )


def _shortened(train: TrainConfig, share: float) -> TrainConfig:
    """A share of the steps, under a schedule of that length."""
    if train.max_steps is None:
        return dataclasses.replace(train, epochs=share * train.epochs)
    return dataclasses.replace(train, max_steps=max(1, round(share * train.max_steps)))


def _data(settings: Mapping[str, Any], named: _Named) -> DataConfig | PocketData:
    if "pocket" not in settings:
        return typed(settings, DataConfig, at="data")
    pocket = typed(settings["pocket"], PocketData, at="data.pocket")
    fusion = max(1, round(named.data_share * pocket.fusion))
    return dataclasses.replace(pocket, fusion=fusion, seed=pocket.seed + named.draw)
