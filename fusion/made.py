"""What an experiment makes of its models on the way to targets, each once however many learners ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fusion.align.stage import align_stage
from fusion.checkpoint import Checkpoint
from fusion.experiment import FusionConfig
from fusion.fuse.stage import fuse_stage
from fusion.models import ModelConfig
from fusion.pocket.stage import initialise_stage
from fusion.represent.stage import represent_stage
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.lanes import Lanes
from fusion.runtime.progress import RunProgress
from fusion.runtime.shortfall import shortfalls
from fusion.runtime.stage import Advance, Stage
from fusion.train.stage import train_stage


@dataclass(frozen=True)
class MadeOnce:
    """Models, representations, alignments and fused targets by name, made when they are first asked for."""

    config: FusionConfig
    conversations: Artifact
    run: Callable[[Stage], Artifact]
    lanes: Lanes
    # The place and the key of a model that is not trained here.
    locate: Callable[[ModelConfig], tuple[Path, str]]

    def produce(self, stage: Stage) -> Artifact:
        """What the stage leaves."""
        return self.run(stage)

    @property
    def seed(self) -> int:
        """The experiment's."""
        return self.config.seed

    def model(self, name: str) -> Checkpoint:
        """The pivot or a source: found on disk or the hub, or trained from scratch."""
        return self.lanes.once(("model", name), lambda: self._model(name))

    def represented(self, name: str) -> Artifact:
        """A model's next-token distributions on the assistant's tokens of every conversation."""
        stage = represent_stage(self.model(name), self.conversations, self.config.represent)
        return self.lanes.once(("represent", name), lambda: self.produce(stage))

    def pivot_represented(self) -> Artifact:
        """The pivot's own distributions."""
        return self.represented(self.config.pivot)

    def aligned(self, name: str) -> Artifact:
        """One source's distributions at the pivot's positions, in the pivot's ids."""
        stage = align_stage(
            self.model(self.config.pivot),
            self.model(name),
            pivot_represented=self.pivot_represented(),
            source_represented=self.represented(name),
            config=self.config.align,
        )
        return self.lanes.once(("align", name), lambda: self.produce(stage))

    def fused(self, sources: Sequence[str]) -> Artifact:
        """One target distribution per position, from the pivot and `sources`, or from the pivot alone."""
        aligned = {self.config.models[name].label: self.aligned(name) for name in sources}
        stage = fuse_stage(self.pivot_represented(), aligned, self.config.fuse, conversations=self.conversations)
        return self.lanes.once(("fuse", *sources), lambda: self.produce(stage))

    def _model(self, name: str) -> Checkpoint:
        model = self.config.models[name]
        pivot = name == self.config.pivot
        row, group, role = ("pivot", "Pivot", "pivot") if pivot else (f"source-{model.label}", "Sources", "source")
        if model.pocket is None:
            directory, key = self.locate(model)
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


def producer(store: Store, progress: RunProgress, make_room: Callable[[], None]) -> Callable[[Stage], Artifact]:
    """How every stage is run: through the store, shown, with room made for it on the GPU, and with a word on what it
    had to leave out."""
    making_room = threading.Lock()

    def produce(stage: Stage) -> Artifact:
        def build(out: Path, advance: Advance) -> Mapping[str, object] | None:
            if "transformers" in stage.libraries:
                _import_transformers()
            if stage.needs_gpu:
                with making_room:
                    make_room()
            return stage.build(out, advance)

        artifact = progress.produce(store, replace(stage, build=build))
        for text in shortfalls(stage.name, stage.what, artifact.manifest.get("facts", {})):
            progress.note_once(text)
        return artifact

    return produce


_IMPORTING = threading.Lock()


def _import_transformers() -> None:
    """transformers fills its lazy module on first use; two threads doing so at once break it."""
    with _IMPORTING:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
