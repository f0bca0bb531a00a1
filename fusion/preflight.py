"""What would stop fusion, looked for before anything is trained: models that are not to be had, dialogues that cannot
be read, templates that do not render them, and a machine that is too small."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE

from fusion.checkpoint import Checkpoint
from fusion.conversations.conversation import Conversation, load_conversations, read_conversations
from fusion.conversations.files import FUSION
from fusion.dialogues import dialogues_stage
from fusion.expected import dialogues_of
from fusion.experiment import FusionConfig
from fusion.planned import Book, PlannedStage, Unplannable, walked
from fusion.pocket.dialogues import PocketData
from fusion.represent.stage import represent_stage
from fusion.runtime.artifacts import Artifact, Store
from fusion.runtime.configure import Refusal
from fusion.runtime.given_model import checkpoint_directory, hub_problem, on_this_disk, with_template
from fusion.runtime.preflight import disk_problems, machine_memory, memory_problems, refusals
from fusion.runtime.work import Work


def problems(config: FusionConfig, store: Store, *, ask: bool) -> list[str]:
    """Models that are neither on this disk nor (asked only with `ask`) on the hub, dialogues that are refused, and
    templates of models here that fail on a dialogue.

    What the `store` has is taken as good: dialogues that were read, models that represented them.
    """
    found: list[str] = []
    directories: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="fusechat-preflight-") as scratch:
        for model in config.models.values():
            if model.path is None:
                continue  # trained here, in a format of its own
            try:
                if on_this_disk(model) is not None:
                    directories[model.label] = with_template(model, checkpoint_directory(model), Path(scratch))
                elif ask:
                    refused = hub_problem(model)
                    found += [refused] if refused else []
            except Refusal as refusal:
                found.append(str(refusal))
        try:
            conversations, artifact = _conversations(config, store, ask=ask)
        except Refusal as refusal:
            return [*found, str(refusal)]
        for label, directory in directories.items():
            if not _represented(directory, label, artifact, config, store):
                found += template_problems(label, directory, conversations, config)
    return found


def machine_problems(config: FusionConfig, expected: Mapping[str, Any] | None) -> list[str]:
    """Too little room for the checkpoints still to be made, or memory for the largest; none where nothing says how
    large they are."""
    book = Book()
    with tempfile.TemporaryDirectory(prefix="fusechat-plan-") as scratch:
        try:
            dialogues = dialogues_of(config, expected)
        except Refusal:  # what keeps dialogues from being read is said by `problems`
            return []
        try:
            walked(config, book, Path(scratch), dialogues)
        except Unplannable:
            return []
        except Refusal as refusal:
            return [str(refusal)]
    compute = [stage for stage in book.stages.values() if stage.found is None]
    written = written_below(compute, lambda work: work.bytes, config.artifacts, lanes=config.lanes)
    return [*disk_problems(written), *memory_problems(memory_for(compute), machine_memory())]


def written_below(
    compute: Sequence[PlannedStage], stays: Callable[[Work], float], artifacts: Path, *, lanes: int
) -> dict[Path, float]:
    """Bytes that stages still write, by where they go: models of the hub into its cache, all else into the store, with
    what `lanes` of them need while they run; `stays`: what each leaves."""
    fetched = sum(stays(stage.work) for stage in compute if stage.stage == "download")
    kept = sum(stays(stage.work) for stage in compute if stage.stage != "download")
    working = max((stage.work.working for stage in compute), default=0.0) * lanes
    return {artifacts: kept + working, Path(HF_HUB_CACHE): fetched}


def memory_for(compute: Sequence[PlannedStage]) -> dict[str, float]:
    """Bytes of memory that stages need at least, by what they do."""
    return {f"{stage.stage} {stage.what}": max(stage.work.holds, stage.work.memory) for stage in compute}


def template_problems(
    label: str, directory: Path, conversations: Sequence[Conversation], config: FusionConfig
) -> list[str]:
    """The first dialogue that a model's tokenizer and chat template fail on, as representing them would."""
    from fusion.conversations.template import label_rows
    from fusion.represent.checkpoint import load_tokenizer

    def render() -> None:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # the stage itself says them
            label_rows(load_tokenizer(directory), conversations, max_length=config.represent.max_length)

    return [f"model '{label}': {problem}" for problem in refusals(render)]


def _conversations(config: FusionConfig, store: Store, *, ask: bool) -> tuple[Sequence[Conversation], Artifact | None]:
    """The dialogues and, where they were read before, the artifact; none of those that this project writes itself.

    A data set of the hub is not fetched for it.
    """
    data = config.data
    if isinstance(data, PocketData):
        return (), None
    if data.dataset is not None and not Path(data.dataset).expanduser().is_dir() and not ask:
        return (), None
    stage = dialogues_stage(config)
    key = store.key(stage)
    manifest = store.manifest(stage.name, key)
    if manifest is not None:
        path = store.path(stage.name, key)
        artifact = Artifact(stage=stage.name, key=key, path=path, manifest=manifest, reused=True)
        return read_conversations(path / FUSION), artifact
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return load_conversations(data, seed=config.seed), None


def _represented(directory: Path, label: str, artifact: Artifact | None, config: FusionConfig, store: Store) -> bool:
    """Whether the model's run over the dialogues is in the store; without the dialogues nothing is."""
    if artifact is None:
        return False
    model = Checkpoint(model=label, group="", path=directory, key=store.directory_key(directory))
    stage = represent_stage(model, artifact, config.represent)
    return store.manifest(stage.name, store.key(stage)) is not None
