"""READ FIRST.  From conversations to merged checkpoints, each stage one value that a store runs or finds done.

    conversations --represent--> Representation per model
      --align--> each source's distributions at the pivot's positions, in the pivot's ids
      --fuse--> one target distribution per position
      --train--> one checkpoint per learner: the baselines SFT and Multi, and a target per source
      --merge--> one merged checkpoint per merge rule

Stages that do not wait for each other run in `lanes` side by side.  Every stage goes through the artifact store, so a
second run, or a sweep's next cell, computes only what is new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusion.align.stage import align_stage
from fusion.checkpoint import Checkpoint
from fusion.conversations.files import FUSION, content_of
from fusion.dialogues import dialogues_stage
from fusion.experiment import FusionConfig, fusion_config
from fusion.fuse.stage import fuse_stage
from fusion.merge.stage import merge_stage
from fusion.models import ModelConfig, located
from fusion.pocket.stage import initialise_stage
from fusion.represent.stage import represent_stage
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.lanes import Lanes, results
from fusion.runtime.precision import check_update, kept_as_stored
from fusion.runtime.progress import RunProgress
from fusion.runtime.stage import Advance, Stage
from fusion.tasks import TASKS, Learner
from fusion.train.stage import train_stage

__all__ = ["FusedModels", "FusionConfig", "fusion_config", "run"]


@dataclass(frozen=True, kw_only=True)
class FusedModels:
    """What a run hands to evaluation: every model of the table in the table's order, and the dialogues' artifact."""

    checkpoints: tuple[Checkpoint, ...]
    conversations: Artifact


def run(
    config: FusionConfig,
    progress: RunProgress,
    *,
    make_room: Callable[[], None] = lambda: None,
    store: Store | None = None,
    locate: Callable[[ModelConfig, Path], tuple[Path, str]] = located,
) -> FusedModels:
    """Every stage of the experiment, computed or reused; raises Refusal for input a stage will not work on.

    `make_room` is called before a stage loads a model; the caller frees GPU memory there, for example by stopping idle
    servers.  A planner gives a `store` that computes nothing, and a way to `locate` models that need not be there.
    """
    store = store or Store(root=config.artifacts, reuse=config.reuse)
    with ThreadPoolExecutor(max_workers=config.lanes) as pool:
        lanes = Lanes(pool)
        produce = _producer(store, progress, make_room)
        conversations = produce(dialogues_stage(config))
        names = [config.pivot, *config.sources]
        given = _Given(config, conversations, produce, store.root, locate)
        pivot, *sources = results([lanes.begin(given.checkpoint, name) for name in names])
        models = dict(zip(names, (pivot, *sources), strict=True))
        made = _Made(config, models, conversations, produce, lanes, progress.note)
        trained = made.learned(config.learners)
        targets = [trained[learner.row] for learner in config.learners if learner.group == "Targets"]
        merged = [made.merged(row, targets) for row in config.merge]
        return FusedModels(checkpoints=(pivot, *sources, *trained.values(), *merged), conversations=conversations)


@dataclass(frozen=True)
class _Given:
    """The pivot and the sources: found on disk or the hub, or trained from scratch."""

    config: FusionConfig
    conversations: Artifact
    produce: Callable[[Stage], Artifact]
    root: Path
    locate: Callable[[ModelConfig, Path], tuple[Path, str]]

    def checkpoint(self, name: str) -> Checkpoint:
        model = self.config.models[name]
        pivot = name == self.config.pivot
        row, group, role = ("pivot", "Pivot", "pivot") if pivot else (f"source-{model.label}", "Sources", "source")
        if model.pocket is None:
            directory, key = self.locate(model, self.root)
            return Checkpoint(model=row, group=group, role=role, path=directory, key=key)
        random = self.produce(initialise_stage(row, model.pocket.model, self.conversations))
        learned = self.produce(
            train_stage(
                name="pretrain",
                what=row,
                initial=random.path,
                initial_key=random.content,
                text=random.path / "train.jsonl",
                text_key=random.content,
                fused=None,
                config=model.pocket.train,
            )
        )
        return Checkpoint(model=row, group=group, role=role, path=learned.path, key=learned.content)


class _Made:
    """What an experiment makes of its given models, each once however many learners ask for it (fusion.tasks)."""

    def __init__(
        self,
        config: FusionConfig,
        models: dict[str, Checkpoint],
        conversations: Artifact,
        produce: Callable[[Stage], Artifact],
        lanes: Lanes,
        note: Callable[[str], None],
    ) -> None:
        self.config = config
        self.note = note
        self.seed = config.seed
        self.models = models
        self.conversations = conversations
        self.produce = produce
        self.lanes = lanes

    def represented(self, name: str) -> Artifact:
        """A model's next-token distributions on the assistant's tokens of every conversation."""
        stage = represent_stage(self.models[name], self.conversations, self.config.represent)
        return self.lanes.once(("represent", name), lambda: self.produce(stage))

    def pivot_represented(self) -> Artifact:
        """The pivot's own distributions."""
        return self.represented(self.config.pivot)

    def aligned(self, name: str) -> Artifact:
        """One source's distributions at the pivot's positions, in the pivot's ids."""

        def make() -> Artifact:
            stage = align_stage(
                self.models[self.config.pivot],
                self.models[name],
                pivot_represented=self.pivot_represented(),
                source_represented=self.represented(name),
                config=self.config.align,
            )
            return self.produce(stage)

        return self.lanes.once(("align", name), make)

    def fused(self, sources: Sequence[str]) -> Artifact:
        """One target distribution per position, from the pivot and `sources`, or from the pivot alone."""
        aligned = {self.config.models[name].label: self.aligned(name) for name in sources}
        stage = fuse_stage(self.pivot_represented(), aligned, self.config.fuse)
        return self.lanes.once(("fuse", *sources), lambda: self.produce(stage))

    def learned(self, learners: Sequence[Learner]) -> dict[str, Checkpoint]:
        """The pivot trained into every learner's row.  Those that wait for nothing begin first."""
        pivot, names = self.config.pivot, self.config.sources
        waiting = [learner for learner in learners if TASKS[learner.task].reads_sources]
        begun = {one.row: self.lanes.begin(self.learn, one) for one in learners if one not in waiting}
        ahead: list[Future[Any]] = []
        if waiting:
            ahead += [self.lanes.begin(self.represented, name) for name in (pivot, *names)]
            ahead += [self.lanes.begin(self.aligned, name) for name in names]
        begun |= {one.row: self.lanes.begin(self.learn, one) for one in waiting}
        results([*ahead, *begun.values()])
        return {one.row: begun[one.row].result() for one in learners}

    def learn(self, learner: Learner) -> Checkpoint:
        """The pivot fine-tuned on the conversations, towards the teacher of the learner's task where it has one."""
        task, pivot = TASKS[learner.task], self.models[self.config.pivot]
        stage = train_stage(
            what=learner.row,
            initial=pivot.path,
            initial_key=pivot.key,
            text=self.conversations.path / FUSION,
            text_key=content_of(self.conversations, "fusion"),
            fused=task.teacher(learner, self),
            config=task.settings(self.config.train),
        )
        artifact = self.produce(stage)
        self.check_kept(artifact, f"{learner.row}, saved in {{}},", "set train.save_dtype=float32")
        row, group, role = learner.row, learner.group, learner.role
        return Checkpoint(model=row, group=group, role=role, path=artifact.path, key=artifact.content)

    def merged(self, row: str, targets: Sequence[Checkpoint]) -> Checkpoint:
        """The targets merged in weight space by the rule that the table's row is named after."""
        pivot, rule = self.models[self.config.pivot], self.config.merge[row]
        how = self.config.merged
        artifact = self.produce(merge_stage(pivot, targets, what=row, rule=rule, how=how, seed=self.seed))
        self.check_kept(artifact, f"{row}, written in {{}},", "set merged.dtype=float32")
        return Checkpoint(model=row, group="Merged", role="merged", path=artifact.path, key=artifact.content)

    def check_kept(self, artifact: Artifact, what: str, way_out: str) -> None:
        """Say, or refuse, where rounding the weights lost too much of an update; `what` has a place for their type."""
        facts = artifact.manifest.get("facts", {})
        if "update" in facts:
            told = what.format(facts["dtype"]["stored"])
            check_update(told, kept_as_stored(facts), way_out, self.config.lost_update, self.note)


def _producer(store: Store, progress: RunProgress, make_room: Callable[[], None]) -> Callable[[Stage], Artifact]:
    """How every stage is run: through the store, shown, with room made for it on the GPU."""
    making_room = threading.Lock()

    def produce(stage: Stage) -> Artifact:
        def build(out: Path, advance: Advance) -> Mapping[str, object] | None:
            if "transformers" in stage.libraries:
                _import_transformers()
            if stage.needs_gpu:
                with making_room:
                    make_room()
            return stage.build(out, advance)

        return progress.produce(store, replace(stage, build=build))

    return produce


_IMPORTING = threading.Lock()


def _import_transformers() -> None:
    """transformers fills its lazy module on first use; two threads doing so at once break it."""
    with _IMPORTING:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
