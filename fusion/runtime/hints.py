"""What a mistyped setting may have been meant as: its whole path, among the paths that conf/ writes."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from fusion.runtime.configure import nearest


@functools.cache
def written_settings(conf: Path) -> Mapping[str, tuple[str, ...]]:
    """The dotted path of every setting that a file below `conf` writes, and the entries (group=name) that write it.

    A file at the top writes for every command, which is said as no entry.
    """
    found: dict[str, list[str]] = {}
    for file in sorted(conf.rglob("*.yaml")):
        group, name = file.parent.relative_to(conf).as_posix(), file.stem
        text = file.read_text()
        for path in _paths(yaml.safe_load(text), _package(text, "" if group == "." else group.replace("/", "."))):
            entries = found.setdefault(path, [])
            if group not in (".", "experiment", "study", "row"):
                entries.append(f"{group}={name}")
    return {path: tuple(entries) for path, entries in found.items()}


def unknown_setting(path: str, conf: Path) -> str:
    """A refusal of the setting `path`, with the nearest that there is, or the group's entry that would take it."""
    written = written_settings(conf)
    begin, _, rest = path.partition(".")
    entries = sorted(file.stem for file in (conf / begin).glob("*.yaml"))
    if entries and not rest:
        way = f"choose one by {begin}=NAME (of {', '.join(entries)}) and change it by {begin}.KEY=VALUE"
        return f"{begin} is a group of settings: {way}"
    takers = [entry for entry in written.get(path, ()) if entry.startswith(f"{begin}=")]
    if takers:
        return f"unknown key '{path}': the chosen entry of {begin} does not have it, but {' and '.join(takers)}"
    same_end = [known for known in written if known.endswith(f".{path.rpartition('.')[2]}")]
    close = difflib.get_close_matches(path, same_end, n=1, cutoff=0.4)  # before another name in the right place
    close = close or difflib.get_close_matches(path, written, n=1, cutoff=0.75)
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
