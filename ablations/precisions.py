"""At which precision each model of a cell was trained, stored and served, and what is left there of its update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eval.report.sections import Entry, Section
from eval.serve import Serve
from eval.serve.checkpoint import noted_dtype
from eval.spreadsheet import read_csv, rows_csv
from fusion.checkpoint import Checkpoint
from fusion.runtime.artifacts import content_of, read_manifest
from fusion.runtime.configure import Refusal
from fusion.runtime.precision import Kept, LostUpdate, check_update, kept_as_served, kept_as_stored
from fusion.runtime.progress import StageRecord


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One model's.  Types are torch's names, empty where there is none or nobody knows it.

    What is left of the update (fusion.runtime.precision.Kept) is None of a model that was not trained or merged here.
    """

    model: str
    trained: str
    """Of the weights while they were trained, or of a merge the arithmetic's."""
    stored: str
    served: str
    rounding: str
    """How a merge came from fp32 to what is stored."""
    as_stored: Kept | None
    as_served: Kept | None


def facts_of(checkpoint: Path, key: str) -> Mapping[str, Any]:
    """What the stage that wrote a checkpoint noted; nothing of a checkpoint that was found.

    A manifest is believed where the files it lists make up `key`, by which the run knows the checkpoint: a stranger's
    directory may hold one, but is known by all of its files, that manifest among them.
    """
    try:
        manifest = read_manifest(checkpoint)
    except Refusal:
        return {}
    return manifest.get("facts", {}) if content_of(manifest) == key else {}


def precisions(checkpoints: Iterable[Checkpoint], served: Callable[[Checkpoint, str], str | None]) -> list[Precision]:
    """Of every model; `served` says in which type a checkpoint stored in one is computed with.

    Raises Refusal for a checkpoint without config or weights.
    """
    found = []
    for checkpoint in checkpoints:
        facts = facts_of(checkpoint.path, checkpoint.key)
        types = facts.get("dtype") or {}
        stored = types.get("stored") or noted_dtype(checkpoint.path)
        computed = served(checkpoint, stored)
        found.append(
            Precision(
                model=checkpoint.model,
                trained=types.get("trained") or ("float32" if "rounding" in types else ""),
                stored=stored,
                served=computed or "",
                rounding=types.get("rounding", ""),
                as_stored=kept_as_stored(facts),
                as_served=kept_as_served(facts, computed),
            )
        )
    return found


def check_served(
    checkpoints: Iterable[Checkpoint], serve: Serve, policy: LostUpdate, say: Callable[[str], None]
) -> None:
    """Before anything is asked: say, or refuse, where the server's precision loses an update that the files hold.

    Raises Refusal with the figures and the way out.
    """
    for one in precisions(checkpoints, lambda _, stored: serve.precision(stored)):
        if one.as_stored is not None and one.as_stored.enough:
            check_update(
                f"{one.model}, stored in {one.stored} and served in {one.served},",
                one.as_served,
                "set serve.dtype=float32",
                policy,
                say,
            )


def as_answered(records: Sequence[StageRecord], serve: Serve) -> Callable[[Checkpoint, str], str | None]:
    """The precision that the answers' manifests name for a model's weights, else what the settings come down to."""
    said: dict[str, str] = {}
    for record in records:
        if record.stage in ("answers", "measured"):
            manifest = read_manifest(Path(record.path))
            dtype = manifest.get("facts", {}).get("dtype")
            if dtype is not None:
                said[manifest["inputs"]["weights"]] = dtype
    return lambda checkpoint, stored: said.get(checkpoint.key) or serve.precision(stored)


def lost_notes(found: Iterable[Precision]) -> list[str]:
    """A sentence below the table for each model whose update is not whole where it is measured."""
    return [
        f"{one.model}: of what training changed only a part is left as {where} in {dtype}: {kept}."
        for one in found
        for where, dtype, kept in (("stored", one.stored, one.as_stored), ("served", one.served, one.as_served))
        if kept is not None and not kept.enough and not (where == "served" and kept == one.as_stored)
    ]


def precisions_section(found: Sequence[Precision]) -> Section:
    """The table of the report."""
    columns = ("Model", "Trained or merged in", "Stored in", "Rounding", "Served in")
    measures = tuple(f"{name}, {where}" for where in ("stored", "served") for name in ("Cosine", "Norm ratio", "Moved"))
    rows = []
    for one in found:
        texts = (one.model, one.trained, one.stored, one.rounding, one.served or "not known")
        rows.append([*(Entry(text=text) for text in texts), *_entries(one.as_stored), *_entries(one.as_served)])
    return Section(
        title="Precision",
        notes=(
            "What is left of the update, model minus the weights it started from, in the files and in the server: its"
            " cosine with the whole update, its norm by the whole one's, and the share of entries that moved. 1 is all"
            " of it; the cosine times the norm ratio is the share along the update.",
        ),
        columns=(*columns, *measures),
        numeric=frozenset(measures),
        rows=rows,
    )


def write_precisions(found: Sequence[Precision], file: Path) -> None:
    """The table as CSV."""
    measures = [field.name for field in fields(Kept)]
    names = [f"{name}_{where}" for where in ("stored", "served") for name in measures]
    rows: list[list[object]] = [["model", "trained", "stored", "rounding", "served", *names]]
    for one in found:
        kept = [
            getattr(part, name) if part is not None else None
            for part in (one.as_stored, one.as_served)
            for name in measures
        ]
        rows.append([one.model, one.trained, one.stored, one.rounding, one.served, *kept])
    file.write_text(rows_csv(rows), encoding="utf-8")


def read_precisions(file: Path) -> list[Precision]:
    """What `write_precisions` wrote."""
    return [
        Precision(
            **{name: row[name] for name in ("model", "trained", "stored", "rounding", "served")},
            as_stored=_read_kept(row, "stored"),
            as_served=_read_kept(row, "served"),
        )
        for row in read_csv(file)
    ]


def _read_kept(row: Mapping[str, str], where: str) -> Kept | None:
    if not row[f"moved_{where}"]:
        return None
    values = {field.name: row[f"{field.name}_{where}"] for field in fields(Kept)}
    return Kept(**{name: float(value) if value else None for name, value in values.items()})  # type: ignore[arg-type]


def _entries(kept: Kept | None) -> list[Entry]:
    if kept is None:
        return [Entry() for _ in fields(Kept)]
    values = (kept.cosine, kept.norm_ratio, kept.moved)
    return [Entry(text="" if value is None else f"{value:.4f}", number=value) for value in values]
