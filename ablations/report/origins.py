"""Where a report's numbers come from: every cell with its pages, every artifact behind them with its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ablations.cell import Cell
from ablations.cell_note import CELL, read_note
from ablations.made_by import disagreements
from ablations.sweep.files import read_failure
from eval.report.made import address
from eval.report.sections import Entry, Section
from fusion.runtime.artifacts import Manifest, known_manifest
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import StageRecord

_PAGES = {
    "leaderboard": "leaderboard.html",
    "answers": "answers.html",
    "scores": "scores.csv",
    "record": "cell.json",
}


def cells_section(cells: Sequence[Cell], where: Path, out: Path) -> Section:
    """Every cell below `where`, the failed ones and those that cannot be read with their reasons; links lead from `out`
    to what is in its folder."""
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.axes))
    rows = []
    for cell in cells:
        pages = {label: cell.path / name for label, name in _PAGES.items()}
        links = tuple((label, address(page, out)) for label, page in pages.items() if page.exists())
        models = ((model, manifest(path, cell)) for model, path in cell.checkpoints.items())
        manifests = tuple((model, address(found, out)) for model, found in models if found is not None)
        settings = [Entry(text=cell.axes[axis]) for axis in axes]
        rows.append(
            [Entry(text=cell.name), *settings, Entry(text=str(cell.seed), number=cell.seed), Entry(text="finished"),
             Entry(links=links), Entry(links=manifests)]
        )  # fmt: skip
    shown = {cell.path for cell in cells}
    unread: dict[Path, str] = {}
    for path in sorted(where.rglob(CELL)):
        if path.parent not in shown:
            unread[path.parent] = _why_left_out(path.parent)
    for path in sorted(where.rglob("failed.json")):
        try:
            failure = read_failure(path.parent)
        except Refusal as refusal:
            unread[path.parent] = str(refusal)
            continue
        if failure is not None:
            rows.append(_without_pages(failure.name, f"failed: {failure.reason}", len(axes)))
    rows += [_without_pages(str(folder.relative_to(where)), why, len(axes)) for folder, why in unread.items()]
    return Section(
        title="Cells",
        notes=(
            "A model's name leads to the manifest of its checkpoint: settings, inputs, code, seed, file digests.",
            *disagreements({cell.name: cell.code for cell in cells}),
        ),
        columns=("Cell", *axes, "seed", "State", "Pages", "Manifests"),
        numeric=frozenset({"seed"}),
        rows=rows,
    )


def _why_left_out(folder: Path) -> str:
    try:
        read_note(folder)
    except Refusal as refusal:
        return f"left out: {refusal}"
    return "left out: its tables cannot be read"


def _without_pages(name: str, state: str, axes: int) -> list[Entry]:
    return [Entry(text=name), *(Entry() for _ in range(axes)), Entry(), Entry(text=state), Entry(), Entry()]


def artifacts_section(cells: Sequence[Cell], out: Path) -> list[Section]:
    """Every artifact behind the cells once, with its manifest; nothing where the cells name none."""
    rows: dict[tuple[str, str], list[Entry]] = {}
    used: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        for record in cell.stages:
            place = (record.stage, record.key)
            used.setdefault(place, set()).add(cell.name)
            if place not in rows:
                found = manifest(record.path, cell)
                links = () if found is None else (("manifest", address(found, out)),)
                rows[place] = [Entry(text=record.stage), Entry(text=record.what), Entry(text=record.key),
                               Entry(links=links)]  # fmt: skip
    if not rows:
        return []
    section = Section(
        title="Artifacts",
        notes=("Each was computed once; a manifest names its inputs by their content.",),
        columns=("Stage", "Of", "Key", "Manifest", "Cells"),
        numeric=frozenset({"Cells"}),
        rows=[[*row, Entry(text=str(len(used[place])), number=len(used[place]))] for place, row in rows.items()],
        folded=True,
    )
    return [section]


def artifact(path: str, cell: Cell) -> Path | None:
    """The directory of an artifact that a cell names, which may be relative to where the sweep was run; None where it
    is no longer there."""
    places = [Path(path), *(parent / path for parent in cell.path.resolve().parents)]
    return next((place for place in places if place.is_dir()), None)


def processors(artifacts: Iterable[tuple[StageRecord, Path]]) -> list[str]:
    """One sentence on whose arithmetic is behind these artifacts, each with its folder; none where no manifest says
    it."""
    found = (known_manifest(place) for _, place in artifacts)
    named = sorted({name for manifest in found if manifest is not None and (name := _computed_on(manifest))})
    if not named:
        return []
    return [f"Computed on {' and '.join(named)}: on another processor the same seeds give other models."]


def _computed_on(manifest: Manifest) -> str | None:
    """The GPU, for a stage that used one, else the processor."""
    on_gpu = manifest.get("made_with", {}).get("device") == "cuda"
    return manifest.get("versions", {}).get("gpu" if on_gpu else "processor")


def manifest(path: str, cell: Cell) -> Path | None:
    """The manifest of an artifact, or of a checkpoint that was found (its config.json); None where there is none."""
    found = artifact(path, cell)
    files = [found / name for name in ("manifest.json", "config.json")] if found else []
    return next((file for file in files if file.exists()), None)
