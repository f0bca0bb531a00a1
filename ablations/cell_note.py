"""What a finished cell says of itself in its cell.json, and the artifacts behind it with their manifests.

A file that a crash or a disk has damaged is that cell's own trouble: it is named, and the others go on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fusion.runtime.artifacts import Manifest, content_of, read_manifest
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.progress import StageRecord
from fusion.runtime.reading import read_object

CELL = "cell.json"


@dataclass(frozen=True, kw_only=True)
class CellNote:
    """A cell.json; those of older versions lack some of it.  `ablations.cell` says what each part is."""

    name: str
    experiment: str
    study: str | None = None
    seed: int
    axes: Mapping[str, str]
    weights: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str | None] = field(default_factory=dict)
    stages: tuple[StageRecord, ...] = ()
    code: str = ""
    scoring: Any = None


@dataclass(frozen=True, kw_only=True)
class ChainArtifact:
    """One artifact behind a cell; `what` is the model or source it was about."""

    stage: str
    what: str
    key: str
    path: Path
    manifest: Manifest

    @property
    def content(self) -> str:
        """What later links name it by."""
        return content_of(self.manifest)

    @property
    def file(self) -> str:
        """The name that its manifest has beside a model card."""
        return f"{self.stage}-{self.key}.json"


def read_note(folder: Path) -> CellNote:
    """What the finished cell in this folder says.  Raises Refusal where there is none, or it cannot be read."""
    file = folder / CELL
    if not file.exists():
        raise Refusal(f"there is no finished cell in {folder}: expected a folder with a {CELL}")
    found = read_object(file, expected="what a finished cell says of itself")
    known = {entry.name for entry in fields(CellNote)}
    try:
        return typed({key: value for key, value in found.items() if key in known}, CellNote)
    except Refusal as refusal:
        raise Refusal(f"{file} is not what a finished cell leaves ({refusal}): run the cell again") from refusal


def read_notes(folders: Iterable[Path]) -> dict[Path, CellNote]:
    """The same of many folders, in their order; a cell that cannot be read is named in a warning and left out."""
    found = {}
    for folder in folders:
        try:
            found[folder] = read_note(folder)
        except Refusal as refusal:
            warnings.warn(f"{refusal}; that cell is left out", stacklevel=2)
    return found


def read_artifacts(note: CellNote) -> list[ChainArtifact]:
    """The artifacts behind a cell, in the order in which it used them.

    Raises Refusal for one that is not there any more, or whose manifest is damaged.
    """
    return [
        ChainArtifact(
            stage=stage.stage, what=stage.what, key=stage.key, path=Path(stage.path), manifest=_manifest(stage.path)
        )
        for stage in note.stages
    ]


def _manifest(path: str) -> Manifest:
    try:
        return read_manifest(Path(path))
    except Refusal as refusal:
        raise Refusal(
            f"{refusal}; the cell was made from it: give the command in the directory where the cell was run, or run"
            " the cell again"
        ) from refusal
