"""What a mistyped setting may have been meant as: its whole path, among the paths that conf/ writes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from fusion.runtime.configure import nearest


def written_settings(own: object, conf: Path, files: Iterable[Path]) -> Mapping[str, tuple[str, ...]]:
    """The dotted path of every setting of a command, and the entries (group=name) that write it: its `own` settings,
    which no entry has to, and those of these `files` below `conf`.
    """
    found: dict[str, list[str]] = {path: [] for path in _paths(own, "")}
    for file in sorted(files):
        group, text = file.parent.relative_to(conf).as_posix(), file.read_text()
        package = _package(text, group.replace("/", "."))
        for path in _paths(yaml.safe_load(text), package):
            entries = found.setdefault(path, [])
            if package:  # other files change what is written elsewhere
                entries.append(f"{group}={file.stem}")
    return {path: tuple(entries) for path, entries in found.items()}


def unknown_setting(path: str, written: Mapping[str, tuple[str, ...]], *, inside: str = "") -> str:
    """A refusal of the setting `path`: the nearest of those `written`, or the group's entry that would take it.

    Of several that were given at once, as `path={...}`, the one `inside` is at fault.
    """
    begin, _, rest = path.partition(".")
    entries = {entry for known in written.values() for entry in known if entry.startswith(f"{begin}=")}
    if entries and not rest:
        way = f"choose one by {' or '.join(sorted(entries))}, and change it by {begin}.KEY=VALUE"
        return f"{begin} is a group of settings: {way}"
    if inside.startswith(f"{path}."):
        path = inside
    takers = [entry for entry in written.get(path, ()) if entry.startswith(f"{begin}=")]
    if takers:
        return f"unknown key '{path}': the chosen entry of {begin} does not have it, but {' and '.join(takers)}"
    same_end = [known for known in written if known.endswith(f".{path.rpartition('.')[2]}")]
    close = difflib.get_close_matches(path, same_end, n=1, cutoff=0.4)  # before another name in the right place
    # A group that no file writes to as a whole, as `merge`, is a name too.
    names = dict.fromkeys([*written, *(known.partition(".")[0] for known in written)])
    close = close or difflib.get_close_matches(path, names, n=1, cutoff=0.75)
    return f"unknown key '{path}': {nearest(path, close or written)}"


def _package(text: str, group: str) -> str:
    """Where Hydra puts a file's settings: as its first line says, else below its group."""
    first = text.partition("\n")[0]
    package = first.removeprefix("# @package").strip() if first.startswith("# @package") else group
    return "" if package == "_global_" else package


def _paths(node: object, at: str) -> Iterator[str]:
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        if not at and key in ("defaults", "hydra"):
            continue
        path = f"{at}.{key}" if at else str(key)
        yield path
        yield from _paths(value, path)
