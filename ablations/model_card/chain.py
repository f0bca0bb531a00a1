"""The artifacts behind one merged model of a finished cell, with their manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.cell_note import CellNote, ChainArtifact, read_artifacts, read_note
from fusion.runtime.configure import Refusal, nearest

# Between the model and the benchmark in what a stage was about, as the pipeline writes it.
_ASKED = " · "


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A merged model and all that it came of."""

    model: str
    cell: CellNote
    folder: Path
    """Of the cell."""
    merge: ChainArtifact
    """The model's own artifact."""
    links: tuple[ChainArtifact, ...]
    """All artifacts behind it and its evaluation, first to last."""
    pivot: Path
    """The directory of the pivot that it was merged from."""
    targets: tuple[Path, ...]
    """Those of the targets, in order."""

    @property
    def models(self) -> Mapping[str, str | None]:
        """The pivot and the sources by row: a name of the hub, a directory, or None for a model trained here."""
        return self.cell.models

    @property
    def store(self) -> Path:
        """The artifact store of the cell."""
        return self.merge.path.parents[1]

    def named(self, directory: Path) -> str:
        """A model's directory as a recipe names it: within the store, or as conf/model has it."""
        if directory.is_relative_to(self.store):
            return str(directory.relative_to(self.store))
        rows = [row for row, path in self.cell.checkpoints.items() if Path(path) == directory]
        return next((name for row in rows if (name := self.models.get(row))), str(directory))


def read_chain(folder: Path, model: str) -> Chain:
    """The chain of a cell's merged model.

    Raises Refusal when the cell is not finished, has no such merged model, or its artifacts are not there.
    """
    cell = read_note(folder)
    merges = [stage.what for stage in cell.stages if stage.stage == "merge"]
    if model not in merges:
        raise Refusal(f"'{model}' is no merged model of the cell in {folder}: {nearest(model, merges)}")
    found = read_artifacts(cell)
    merge = next(link for link in found if link.stage == "merge" and link.what == model)
    rows = {key: row for row, key in reversed(list(cell.weights.items()))}  # of equal weights, the first
    inputs = merge.manifest["inputs"]
    absent = [role for role, key in inputs.items() if rows.get(key) not in cell.checkpoints]
    if absent or "pivot" not in inputs:
        raise Refusal(
            f"{folder} does not say where what '{model}' was merged from lies ({', '.join(absent) or 'pivot'}): run the"
            " cell again"
        )
    directories = {role: Path(cell.checkpoints[rows[key]]) for role, key in inputs.items()}
    return Chain(
        model=model,
        cell=cell,
        folder=folder,
        merge=merge,
        links=tuple({link.key: link for link in _behind(found, merge)}.values()),
        pivot=directories.pop("pivot"),
        targets=tuple(directories[f"target-{number}"] for number in range(len(directories))),
    )


def _behind(found: Sequence[ChainArtifact], merge: ChainArtifact) -> list[ChainArtifact]:
    """What `merge` was made of, the dialogues, and its own answers and verdicts, in the cell's order."""
    by_content = {link.content: link for link in found}
    wanted, waiting = {merge.key}, [merge]
    while waiting:
        for content in waiting.pop().manifest["inputs"].values():
            link = by_content.get(content)
            if link is not None and link.key not in wanted:
                wanted.add(link.key)
                waiting.append(link)
    own = [link for link in found if link.what.split(_ASKED)[0] == merge.what or link.stage == "data"]
    wanted |= {link.key for link in own}
    return [link for link in found if link.key in wanted]
