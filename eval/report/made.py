"""When, by which command and from what a report was made: what its page alone says."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from eval.report.sections import Entry, Section
from fusion.runtime.progress import StageRecord
from fusion.runtime.versions import git_commit


def made_now(command: Sequence[str] = ()) -> Mapping[str, str]:
    """Today's date, the command (that of this process, where none is given) and the commit of the code."""
    words = list(command) or ["python", *sys.orig_argv[1:]]
    return {
        "Made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": shlex.join(words),
        "Commit": git_commit() or "unknown: the code lies in no checkout",
    }


def artifacts_section(records: Sequence[StageRecord], out: Path) -> list[Section]:
    """The artifacts behind a report in `out`, each with a link to its manifest; nothing where there is none."""
    places = {(record.stage, record.key): record for record in records}
    rows = []
    for record in places.values():
        manifest = Path(record.path) / "manifest.json"
        links = (("manifest", address(manifest, out)),) if manifest.exists() else ()
        named = (Entry(text=record.stage), Entry(text=record.what), Entry(text=record.key))
        rows.append([*named, Entry(links=links)])
    if not rows:
        return []
    note = (
        "Each was computed once; a manifest has its settings, the content of its inputs, code, seed and file digests."
    )
    columns = ("Stage", "Of", "Key", "Manifest")
    return [Section(title="Artifacts", notes=(note,), columns=columns, rows=rows, folded=True)]


def address(file: Path, out: Path) -> str:
    """A link from a page in `out` to a file."""
    return quote(os.path.relpath(file.resolve(), out.resolve()))
