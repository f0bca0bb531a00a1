"""An artifact store that computes nothing: what a run would make or find is written down, under the key it would have.

    store, models = walked(config, Book(), Path(scratch), dialogues_of(config, None))
    store.book.stages     # every stage of the run, found or still to be computed

The real pipeline is walked with it, so a plan knows every stage a run knows.  Of what is not there yet only keys are
handed on; the pocket experiment's dialogues, a second's work, are written to a scratch folder, since what comes after
them is keyed by their content.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from fusion.experiment import FusionConfig
from fusion.models import ModelConfig
from fusion.pipeline import FusedModels, run
from fusion.pocket.dialogues import PocketData
from fusion.pocket.questions import write_dialogues
from fusion.runtime.artifacts import Artifact, Store, T
from fusion.runtime.configure import Refusal
from fusion.runtime.digests import directory_key, file_digest
from fusion.runtime.given_model import checkpoint_directory, on_this_disk, with_template
from fusion.runtime.precision import ITEM_BYTES
from fusion.runtime.progress import RunProgress
from fusion.runtime.reading import read_object
from fusion.runtime.stage import Advance, Stage, unseen
from fusion.runtime.versions import differences, made_with
from fusion.runtime.work import Dialogues, Known, Size, Work

_READ_BELOW = 2**24  # bytes; larger files are not read for a plan, so weights never seen before have a key of their own


def walked(config: FusionConfig, book: Book, scratch: Path, dialogues: Dialogues) -> tuple[PlanningStore, FusedModels]:
    """The pipeline gone through with a store that notes every stage in `book`; `dialogues`: how many there are to fuse
    on, and how long (`fusion.expected`).

    Raises Refusal for settings or input that a run would refuse, Unplannable where nothing says how much it is.
    """
    one_by_one = replace(config, lanes=1)  # so that inputs are entered before outputs
    store = PlanningStore(root=config.artifacts, reuse=config.reuse, scratch=scratch, book=book, dialogues=dialogues)
    return store, run(one_by_one, RunProgress(Console(quiet=True)), store=store, locate=store.locate)


class Unplannable(Refusal):
    """A run that may well go, and of which nothing says how much it is."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage of the plan.  `found`: the manifest it left when it was computed, None when it is still to be."""

    stage: str
    key: str
    what: str
    work: Work
    found: Mapping[str, Any] | None


@dataclass(kw_only=True)
class Book:
    """What the cells of a plan share: every stage once, and the sizes of checkpoints by key."""

    stages: dict[tuple[str, str], PlannedStage] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)

    def enter(self, stage: str, key: str, *, found: Mapping[str, Any] | None, work: Work | None, what: str) -> None:
        """Note the stage of that key, unless it is there."""
        work = work or Work(kind=stage, units=None)
        self.stages.setdefault((stage, key), PlannedStage(stage=stage, key=key, what=what, work=work, found=found))


class PlannedArtifact(Artifact):
    """One whose files are not there."""

    def read(self, reader: Callable[[Path], T], *, stand_in: Callable[[str], T]) -> T:
        return stand_in(self.key)


@dataclass(frozen=True, kw_only=True)
class PlanningStore(Store):
    """The store below `root`, read and never written, as one cell sees it."""

    scratch: Path
    book: Book
    dialogues: Dialogues

    def produce(self, stage: Stage, advance: Advance = unseen) -> Artifact:
        """The artifact as it was found, unread; or, where there is none, its key and place, and a content that no
        artifact has: what is made from it is still to be made, whatever the store holds."""
        key = self.key(stage)
        path = self.path(stage.name, key)
        found = self.manifest(stage.name, key)
        if found is not None and self.reuse == "same_versions":
            here = made_with(stage.libraries, device=stage.device)
            found = None if differences(found.get("made_with", {}), here) else found
        work, size = (None, None) if stage.work is None else stage.work(Known(self.dialogues, self.book.sizes))
        self.book.enter(stage.name, key, found=found, work=work, what=stage.what)
        files: dict[str, Any] = {"fusion.jsonl": {"sha256": key}}
        if found is None and isinstance(stage.config, PocketData):
            path = self.scratch / stage.name / key
            if not path.exists():
                write_dialogues(stage.config, path)
            written = [file for file in path.rglob("*") if file.is_file()]
            files = {str(file.relative_to(path)): {"sha256": file_digest(file)} for file in written}
        manifest = {"files": files} if found is None else found
        there = found is not None and all((path / name).exists() for name in manifest["files"])
        kind = Artifact if there else PlannedArtifact
        artifact = kind(stage=stage.name, key=key, path=path, manifest=manifest, reused=found is not None)
        if size is not None:
            self.book.sizes[artifact.content] = size
        return artifact

    def locate(self, model: ModelConfig, root: Path) -> tuple[Path, str]:
        """The place and key of a model on the hub or on disk; of one that is not there, a key that no file has.

        Raises Refusal when neither weights nor conf/model say how large it is.
        """
        assert model.path is not None
        directory = on_this_disk(model)
        if directory is None:
            size = _said(model)
            worn = f"{model.chat_template} {model.chat_template_kwargs} {model.template_date}"
            key = hashlib.sha256(f"{model.path} {model.revision} {worn}".encode()).hexdigest()[:20]
            directory = root / "absent" / key
            fetched = hashlib.sha256(f"{model.path} {model.revision}".encode()).hexdigest()[:20]
            work = Work(kind="download", units=0, bytes=size.bytes)
            self.book.enter("download", fetched, found=None, work=work, what=model.path)
        else:
            directory = checkpoint_directory(model)
            weights = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
            each = ITEM_BYTES[_stored(directory)]
            held = Size(parameters=weights / each, active=weights / each, bytes_each=each)
            size = replace(_said(model), bytes_each=each) if model.parameters else held
            directory = with_template(model, directory, self.scratch)
            key = self.directory_key(directory)
        self.book.sizes[key] = size
        return directory, key

    def directory_key(self, directory: Path) -> str:
        """As a run's, with a copy of what is known of files' digests, since a plan leaves nothing behind."""
        copied, known = self.scratch / "digests.json", self.root / "digests.json"
        if known.exists() and not copied.exists():
            shutil.copyfile(known, copied)
        return directory_key(directory, copied, digest=_small_digest)


def _said(model: ModelConfig) -> Size:
    if model.parameters is None:
        raise Unplannable(
            f"model '{model.label}': {model.path} is not on this disk, and nothing says how large it is: fetch it"
            f" (hf download {model.path}), or have an entry of conf/model say parameters: 7.2e9"
        )
    return Size(parameters=model.parameters, active=model.active_parameters or model.parameters, bytes_each=2)


def _stored(directory: Path) -> str:
    """The type of a checkpoint's weights by its config; bfloat16, as most are published, where that says nothing."""
    config = read_object(directory / "config.json", expected="that of a Hugging Face checkpoint")
    noted = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch.")
    return noted if noted in ITEM_BYTES else "bfloat16"


def _small_digest(path: Path) -> str:
    if path.stat().st_size < _READ_BELOW:
        return file_digest(path)
    return f"unread {path}"
