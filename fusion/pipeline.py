"""READ FIRST.  From conversations to merged checkpoints, each stage one call that takes and gives named artifacts.

    conversations --represent--> Representation per model
      --align--> each source's distributions at the pivot's positions, in the pivot's ids
      --fuse--> one target distribution per position
      --train--> one target checkpoint per source, and the baselines SFT and Multi
      --merge--> one merged checkpoint per merge rule

Stages that do not wait for each other run in `lanes` side by side.  Every stage goes through the artifact store, so a
second run, or a sweep's next cell, computes only what is new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fusion.artifacts import Artifact, Store
from fusion.checkpoint import Checkpoint, ModelConfig, located
from fusion.dialogues import FUSION, content_key, dialogues
from fusion.experiment import FusionConfig, fusion_config
from fusion.progress import RunProgress, StageProgress
from fusion.train.config import TrainConfig

__all__ = ["FusedModels", "FusionConfig", "fusion_config", "run"]

_IMPORTING = threading.Lock()
_MAKING_ROOM = threading.Lock()
_WITH_A_MODEL = frozenset({"pretrain", "represent", "train"})


class TableRow(NamedTuple):
    """A row of the table: its name, the group that it stands in, and what it is in the recipe (`Checkpoint`)."""

    model: str
    group: str
    role: str


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

    `make_room` is called before a model is computed with, so that whoever still holds a GPU can let go.  A plan gives
    a `store` that computes nothing, and a way to `locate` models that need not be there.
    """
    with ThreadPoolExecutor(max_workers=config.lanes) as lanes:
        return _Run(config, progress, lanes, make_room, store or Store(root=config.artifacts), locate).everything()


class _Run:
    """The stages of one experiment as calls that wait for what they need and go through the store."""

    def __init__(
        self,
        config: FusionConfig,
        progress: RunProgress,
        lanes: ThreadPoolExecutor,
        make_room: Callable[[], None],
        store: Store,
        locate: Callable[[ModelConfig, Path], tuple[Path, str]],
    ) -> None:
        self.config = config
        self.make_room = make_room
        self.store = store
        self.locate = locate
        self.progress = progress
        self.lanes = lanes

    def everything(self) -> FusedModels:
        config = self.config
        conversations = dialogues(config, self.produce)
        names = [config.pivot, *config.sources]
        started = {name: self.lanes.submit(self.checkpoint, name, conversations) for name in names}
        checkpoints = {name: future.result() for name, future in _all(started).items()}
        pivot = checkpoints[config.pivot]
        waiting: dict[str, Future[Checkpoint]] = {}
        if "sft" in config.baselines:
            sft = TableRow("sft", "Baselines", "sft")
            waiting[sft.model] = self.lanes.submit(self.target, sft, pivot, conversations, None)
        for row, fused in self.taught(checkpoints, conversations):
            waiting[row.model] = self.lanes.submit(self.target, row, pivot, conversations, fused)
        trained = {row: future.result() for row, future in _all(waiting).items()}
        targets = [trained[f"target-{config.models[name].label}"] for name in config.sources]
        merged = [self.merge(row, pivot, targets) for row in config.merge]
        baselines = [trained[name] for name in config.baselines]
        sources = [checkpoints[name] for name in config.sources]
        return FusedModels(checkpoints=(pivot, *sources, *baselines, *targets, *merged), conversations=conversations)

    def taught(
        self, checkpoints: Mapping[str, Checkpoint], conversations: Artifact
    ) -> Iterator[tuple[TableRow, Artifact | None]]:
        """What every target and Multi learn beside the labels, by row; None where the labels are everything."""
        config = self.config
        labels = {name: config.models[name].label for name in config.sources}
        learning = {TableRow(f"target-{label}", "Targets", "target"): [name] for name, label in labels.items()}
        if "multi" in config.baselines:
            learning[TableRow("multi", "Baselines", "multi")] = list(config.sources)
        if config.train.lm_weight == 1:
            yield from dict.fromkeys(learning).items()
            return
        if config.teacher == "pivot":
            alone = self.fuse(self.represent(checkpoints[config.pivot], conversations), {})
            yield from dict.fromkeys(learning, alone).items()
            return
        names = [config.pivot, *config.sources]
        represented = {name: self.lanes.submit(self.represent, checkpoints[name], conversations) for name in names}
        representations = {name: future.result() for name, future in _all(represented).items()}
        aligning = {name: self.lanes.submit(self.align, checkpoints, representations, name) for name in config.sources}
        aligned = {name: future.result() for name, future in _all(aligning).items()}
        pivot = representations[config.pivot]
        for row, sources in learning.items():
            fused = self.fuse(pivot, {name: aligned[name] for name in sources})
            yield row, self.shuffle(row.model, pivot, fused) if config.teacher == "shuffled" else fused

    def produce(
        self,
        stage: str,
        what: str,
        *,
        config: Any,
        inputs: Mapping[str, str],
        modules: tuple[str, ...],
        build: Callable[[Path, StageProgress], Mapping[str, Any] | None],
        seed: int | None = None,
    ) -> Artifact:
        def first_imported(directory: Path) -> Mapping[str, Any] | None:
            _import_transformers()
            if stage in _WITH_A_MODEL:
                with _MAKING_ROOM:
                    self.make_room()
            return build(directory, shown)

        with self.progress.stage(stage, what) as shown:
            artifact = self.store.produce(
                stage,
                config=config,
                inputs=inputs,
                modules=modules,
                build=first_imported,
                seed=seed,
            )
            shown.finished(artifact)
        return artifact

    def checkpoint(self, name: str, conversations: Artifact) -> Checkpoint:
        """The pivot or a source: found on disk or the hub, or trained from scratch."""
        config = self.config.models[name]
        pivot = name == self.config.pivot
        row = TableRow("pivot", "Pivot", "pivot") if pivot else TableRow(f"source-{config.label}", "Sources", "source")
        if config.pocket is None:
            directory, key = self.locate(config, self.store.root)
            return Checkpoint(**row._asdict(), path=directory, key=key)
        from fusion.pocket.models import build_checkpoint

        model = config.pocket.model
        random = self.produce(
            "initialise",
            row.model,
            config=model,
            inputs={"dialogues": content_key(conversations, "train")},
            modules=("fusion.pocket.models",),
            build=lambda out, shown: build_checkpoint(model, conversations.path, out),
            seed=model.seed,
        )
        text = random.path / "train.jsonl"
        return self._train("pretrain", row, random, text, random.key, None, config.pocket.train)

    def represent(self, checkpoint: Checkpoint, conversations: Artifact) -> Artifact:
        """A model's next-token distributions on the assistant's tokens of every conversation."""
        from fusion.conversation import read_conversations
        from fusion.represent.teacher_forcing import represent

        return self.produce(
            "represent",
            checkpoint.model,
            config=self.config.represent,
            inputs={"checkpoint": checkpoint.key, "conversations": content_key(conversations, "fusion")},
            modules=("fusion.represent.teacher_forcing",),
            build=lambda out, shown: represent(
                checkpoint=checkpoint.path,
                conversations=read_conversations(conversations.path / FUSION),
                config=self.config.represent,
                out=out,
                advance=shown.advance,
            ),
        )

    def align(
        self, checkpoints: Mapping[str, Checkpoint], representations: Mapping[str, Artifact], source: str
    ) -> Artifact:
        """One source's distributions at the pivot's positions, in the pivot's ids."""
        from fusion.align import align, method
        from fusion.represent import open_representation
        from fusion.represent.checkpoint import load_tokenizer

        pivot = self.config.pivot
        chosen = method(self.config.align)
        return self.produce(
            "align",
            checkpoints[source].model,
            config=[self.config.align, chosen.described()],
            inputs={"pivot": representations[pivot].key, "source": representations[source].key},
            modules=(
                "fusion.align.carry",
                *(part.__module__ for part in (chosen.aligner, chosen.vocabulary_map, chosen.rule)),
            ),
            build=lambda out, shown: align(
                pivot=open_representation(representations[pivot].path),
                source=open_representation(representations[source].path),
                pivot_tokenizer=load_tokenizer(checkpoints[pivot].path),
                source_tokenizer=load_tokenizer(checkpoints[source].path),
                config=self.config.align,
                out=out,
                advance=shown.advance,
            ),
        )

    def fuse(self, pivot: Artifact, aligned: Mapping[str, Artifact]) -> Artifact:
        """One target distribution per position, from the pivot and one source, or all of them at once (Multi), or from
        the pivot alone."""
        from fusion.fuse.stage import fuse

        labels = [self.config.models[name].label for name in aligned]
        what = "all sources" if len(labels) > 1 else labels[0] if labels else "pivot alone"
        return self.produce(
            "fuse",
            what,
            config=self.config.fuse,
            inputs={"pivot": pivot.key, **{f"source-{i}": part.key for i, part in enumerate(aligned.values())}},
            modules=("fusion.fuse.stage", type(self.config.fuse).__module__),
            build=lambda out, shown: fuse(
                pivot=pivot.path,
                aligned={name: part.path for name, part in aligned.items()},
                rule=self.config.fuse,
                out=out,
            ),
        )

    def shuffle(self, row: str, pivot: Artifact, fused: Artifact) -> Artifact:
        """Fused targets without what the sources know about the alternatives."""
        from fusion.fuse.shuffle import shuffle
        from fusion.represent import open_representation

        return self.produce(
            "fuse",
            f"{row}, shuffled",
            config=["shuffled", self.config.seed],
            inputs={"fused": fused.key},
            modules=("fusion.fuse.shuffle",),
            build=lambda out, shown: shuffle(
                fused=fused.path,
                vocabulary=open_representation(pivot.path).vocabulary,
                seed=self.config.seed,
                out=out,
            ),
            seed=self.config.seed,
        )

    def target(self, row: TableRow, pivot: Checkpoint, conversations: Artifact, fused: Artifact | None) -> Checkpoint:
        """The pivot fine-tuned on the conversations, towards the fused distributions where there are any."""
        train = self.config.train
        if fused is None:  # SFT does not depend on what only the fusion term reads: one run serves a sweep over it
            plain_sft = TrainConfig()
            train = replace(
                train,
                lm_weight=1.0,
                objective=plain_sft.objective,
                temperature=plain_sft.temperature,
                tail=plain_sft.tail,
            )
        text = conversations.path / FUSION
        return self._train("train", row, pivot, text, content_key(conversations, "fusion"), fused, train)

    def merge(self, row: str, pivot: Checkpoint, targets: Sequence[Checkpoint]) -> Checkpoint:
        """The targets merged in weight space by the rule that the table's row is named after."""
        from fusion.merge.checkpoint_stream import merge

        rule = self.config.merge[row]
        artifact = self.produce(
            "merge",
            row,
            config=[rule, self.config.seed],
            inputs={"pivot": pivot.key, **{f"target-{i}": target.key for i, target in enumerate(targets)}},
            modules=("fusion.merge.checkpoint_stream", type(rule).__module__),
            build=lambda out, shown: merge(
                pivot=pivot.path,
                targets=[target.path for target in targets],
                names=[target.model for target in targets],
                rule=rule,
                seed=self.config.seed,
                out=out,
                advance=shown.advance,
            ),
            seed=self.config.seed,
        )
        return Checkpoint(model=row, group="Merged", role="merged", path=artifact.path, key=artifact.key)

    def _train(
        self,
        stage: str,
        row: TableRow,
        initial: Checkpoint | Artifact,
        text: Path,
        text_key: str,
        fused: Artifact | None,
        config: TrainConfig,
    ) -> Checkpoint:
        from fusion.train.launch import MODULES, train

        artifact = self.produce(
            stage,
            row.model,
            config=config,
            inputs={"initial": initial.key, "text": text_key, **({"fused": fused.key} if fused else {})},
            modules=MODULES,
            build=lambda out, shown: train(
                initial=initial.path,
                conversations=text,
                fused=fused.path if fused else None,
                config=config,
                out=out,
                progress=shown.advance,
            ),
            seed=config.seed,
        )
        return Checkpoint(**row._asdict(), path=artifact.path, key=artifact.key)


def _import_transformers() -> None:
    """Its names are made at the first use, which two lanes must not do at once."""
    with _IMPORTING:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()


def _all(futures: Mapping[str, Future[Any]]) -> Mapping[str, Future[Any]]:
    """Wait for all before any result is read, so that one failure does not hide what the others finished."""
    wait(futures.values())
    return futures
