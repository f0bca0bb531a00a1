"""Some rows of a file of conversations, as `data.files` names them."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from fusion.conversations.rows import shortened
from fusion.runtime.configure import Refusal

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")
_LONGEST = 4095  # bytes of a path on Linux


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """Consecutive rows of each file of a name or pattern; by default all of them."""

    path: str
    domain: str | None = None
    """The label of conversations that have none of their own."""
    skip: int = 0
    """Rows at the beginning that are left out, as those that are asked or measured later."""
    first: int | None = None
    """How many rows are taken then; None: all."""

    def __post_init__(self) -> None:
        check_name(self.path)
        if self.skip < 0 or (self.first is not None and self.first < 1):
            raise ValueError(
                f"{self.path}: skip is {self.skip} and first {self.first}: expected 0 or more, and 1 or more"
            )

    def found(self) -> list[FilePart]:
        """The same of every file that it names.  Raises Refusal for a pattern that no file has."""
        path = Path(self.path).expanduser()
        if path.exists() or not glob.has_magic(self.path):
            return [replace(self, path=str(path))]
        files = [match for match in sorted(glob.glob(str(path), recursive=True)) if Path(match).is_file()]
        if not files:
            raise Refusal(f"data.files has {self.path}: no file is called so; give a path, or a pattern that some have")
        return [replace(self, path=file) for file in files]

    @property
    def rows(self) -> slice:
        """Which rows they are."""
        return slice(self.skip, None if self.first is None else self.skip + self.first)


def check_name(name: str) -> None:
    """Raise ValueError for what can be the name of no file, folder or data set."""
    shown = shortened(name, longest=60)
    if not name.strip():
        raise ValueError("the name of a file or data set is empty")
    if _ADDRESS.match(name):
        raise ValueError(
            f"{shown} is an address: expected files here, so download it first, or a data set of the hub as"
            " data.dataset=owner/name"
        )
    if "\0" in name or len(os.fsencode(name)) > _LONGEST or any(len(os.fsencode(p)) > 255 for p in name.split("/")):
        raise ValueError(f"{shown} can be the name of no file: it is too long, or has a character of no name")
    try:
        Path(name).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{shown}: there is no user of that name, so give the path from / on") from error
