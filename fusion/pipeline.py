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

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fusion.checkpoint import Checkpoint
from fusion.conversations.files import FUSION, content_of
from fusion.dialogues import dialogues_stage
from fusion.experiment import FusionConfig, fusion_config
from fusion.made import MadeOnce, producer
from fusion.merge.stage import merge_stage
from fusion.models import ModelConfig
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.given_model import located
from fusion.runtime.lanes import Lanes, results
from fusion.runtime.precision import check_update, kept_as_stored
from fusion.runtime.progress import RunProgress
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
    if config.reads_further is not None:
        progress.note_once(config.reads_further)
    store = store or Store(root=config.artifacts, reuse=config.reuse)
    root = store.root
    with ThreadPoolExecutor(max_workers=config.lanes) as pool:
        lanes, produce = Lanes(pool), producer(store, progress, make_room)
        conversations = produce(dialogues_stage(config))
        made = MadeOnce(config, conversations, produce, lanes, lambda model: locate(model, root))
        pivot, *sources = results([lanes.begin(made.model, name) for name in (config.pivot, *config.sources)])
        learned = _learned(made, progress.note)
        targets = [learned[learner.row] for learner in config.learners if learner.role == "target"]
        merged = [_merge(row, pivot, targets, made, progress.note) for row in config.merge]
        return FusedModels(checkpoints=(pivot, *sources, *learned.values(), *merged), conversations=conversations)


def _learned(made: MadeOnce, note: Callable[[str], None]) -> dict[str, Checkpoint]:
    """The pivot trained into every learner's row.  Those that wait for nothing begin first, then what others read."""
    config, begin = made.config, made.lanes.begin

    def learn(learner: Learner) -> Checkpoint:
        return _train(learner, made, note)

    waiting = [learner for learner in config.learners if TASKS[learner.task].reads_sources]
    begun = {learner.row: begin(learn, learner) for learner in config.learners if learner not in waiting}
    names = (config.pivot, *config.sources) if waiting else ()
    ahead = [begin(made.represented, name) for name in names] + [begin(made.aligned, name) for name in names[1:]]
    begun |= {learner.row: begin(learn, learner) for learner in waiting}
    results(ahead)
    results(begun.values())
    return {learner.row: begun[learner.row].result() for learner in config.learners}


def _train(learner: Learner, made: MadeOnce, note: Callable[[str], None]) -> Checkpoint:
    """The pivot fine-tuned on the conversations, towards the teacher of the learner's task where it has one."""
    config, task, pivot = made.config, TASKS[learner.task], made.model(made.config.pivot)
    artifact = made.produce(
        train_stage(
            what=learner.row,
            initial=pivot.path,
            initial_key=pivot.key,
            text=made.conversations.path / FUSION,
            text_key=content_of(made.conversations, "fusion"),
            fused=task.teacher(learner, made),
            config=task.settings(learner.seeded(config.train)),
        )
    )
    _check_kept(artifact, f"{learner.row}, saved in {{}},", "set train.save_dtype=float32", config, note)
    row, group, role = learner.row, learner.group, learner.role
    return Checkpoint(model=row, group=group, role=role, path=artifact.path, key=artifact.content)


def _merge(
    row: str, pivot: Checkpoint, targets: list[Checkpoint], made: MadeOnce, note: Callable[[str], None]
) -> Checkpoint:
    """The targets merged in weight space by the rule that the table's row is named after."""
    config = made.config
    artifact = made.produce(
        merge_stage(pivot, targets, what=row, rule=config.merge[row], how=config.merged, seed=config.seed)
    )
    _check_kept(artifact, f"{row}, written in {{}},", "set merged.dtype=float32", config, note)
    return Checkpoint(model=row, group="Merged", role="merged", path=artifact.path, key=artifact.content)


def _check_kept(artifact: Artifact, what: str, way_out: str, config: FusionConfig, note: Callable[[str], None]) -> None:
    """Say, or refuse, where rounding the weights lost too much of an update; `what` has a place for their type."""
    facts = artifact.manifest.get("facts", {})
    if "update" in facts:
        told = what.format(facts["dtype"]["stored"])
        check_update(told, kept_as_stored(facts), way_out, config.lost_update, note)
