"""python -m ablations.model_card cell=DIR merged=NAME out=DIR: a merged checkpoint as a folder ready for the hub.

The folder holds the checkpoint, README.md with the hub's metadata, recipe.yaml, by which `python -m fusion.merge` makes
the same weights again, the cell's scores.csv, and under manifests/ how every artifact of the chain came to be.  Nothing
is uploaded.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.runtime.command import command


@dataclass(frozen=True, kw_only=True)
class CardCommand:
    """What the command line says."""

    cell: str
    merged: str
    out: str
    debug: bool = False


def run(settings: dict[str, Any]) -> None:
    """Write the folder.  Raises Refusal for a cell, a model or files that are not there, and for a folder that is."""
    from ablations.model_card.card import write_card
    from ablations.model_card.chain import read_chain
    from fusion.runtime.configure import Refusal, typed
    from fusion.runtime.digests import file_digest
    from fusion.runtime.next_step import say_next

    given = typed(settings, CardCommand)
    out = Path(given.out)
    if out.exists():
        raise Refusal(f"{out} exists: give another out, or remove it")
    chain = read_chain(Path(given.cell), given.merged)
    draft = out.parent / f".{out.name}.partial-{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        for name, noted in chain.merge.manifest["files"].items():
            placed(chain.merge.path / name, draft / name)
            if file_digest(draft / name) != noted["sha256"]:
                raise Refusal(
                    f"{chain.merge.path / name} is not the file that was written there: run the cell's command again,"
                    " which rebuilds it"
                )
        shutil.copy(Path(given.cell) / "scores.csv", draft / "scores.csv")
        (draft / "manifests").mkdir()
        for link in chain.links:
            shutil.copy(link.path / "manifest.json", draft / "manifests" / link.file)
        write_card(chain, draft, title=out.name)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    print(out / "README.md")
    say_next("hf", "upload", "OWNER/NAME", str(out))


def placed(source: Path, target: Path) -> None:
    """Put a file there: weights as a hard link where the file system has them, all else as a copy to be edited."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".safetensors":
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another disk
    shutil.copy(source, target)


if __name__ == "__main__":
    command("model_card", run)
