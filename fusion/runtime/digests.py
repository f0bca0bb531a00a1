"""What files are, by their bytes: sha256 of one, and a key of a checkpoint directory.

A large file is read once.  Its digest is remembered under what the file system says of it (device, inode, size, and the
times of the last change of its content and of its inode): the last cannot be set by hand, so a file that was replaced,
or written to and given its old time back, is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fusion.runtime.configure import Refusal
from fusion.runtime.reading import read_object

Stamp = list[int]


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp(path: Path) -> Stamp:
    """What the file system says of a file, links followed: as long as it says the same, the bytes are the same."""
    found = path.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def files_below(directory: Path) -> Iterator[Path]:
    """Every file in a directory and its subfolders, links followed, by name; nothing whose name begins with a dot."""
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from files_below(path)
        elif path.is_file():
            yield path


def directory_key(directory: Path, cache: Path, *, digest: Callable[[Path], str] = file_digest) -> str:
    """A digest of a checkpoint directory's files, those in subfolders included; `cache` remembers the files' own."""
    known = _remembered(cache)
    before = len(known)
    files = []
    for path in files_below(directory):
        place = ":".join(map(str, stamp(path)))
        if place not in known:
            known[place] = digest(path)
        files.append((str(path.relative_to(directory)), known[place]))
    if len(known) > before:
        with contextlib.suppress(OSError):  # a store that may be read only; they are found again
            _remember(known, cache)
    return content_key(files)


def _remember(known: Mapping[str, str], cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_suffix(f".{platform.node()}-{os.getpid()}-{threading.get_ident()}")
    try:
        draft.write_text(json.dumps(known))
        draft.replace(cache)
    finally:
        draft.unlink(missing_ok=True)


def _remembered(cache: Path) -> dict[str, str]:
    """By stamp, the digests that were noted; none where the file is damaged: they are only found again."""
    try:
        found = read_object(cache, expected="digests of files")
    except Refusal:
        return {}
    return {place: digest for place, digest in found.items() if isinstance(digest, str)}


def content_key(files: list[tuple[str, str]]) -> str:
    """One key of several files, given as (name, sha256)."""
    return hashlib.sha256(json.dumps([list(file) for file in sorted(files)]).encode()).hexdigest()[:20]
