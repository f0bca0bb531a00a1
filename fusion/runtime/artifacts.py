"""The content-addressed store: where a stage's output lives, and when it may be used again.

`artifacts/<stage>/<key>/` holds the files a stage wrote and `manifest.json`, which is written last; the directory is
then renamed into place, so a manifest means finished.  The key hashes the stage's name, its typed config, the content
of its inputs and a digest of the code that does its work.  Content is chained, not keys: an artifact rebuilt with
other bytes is another input, and nothing made from the old ones is taken for its own.

What else decides bytes, the libraries' versions and the device, is noted and compared when an artifact is found again;
`reuse` says what a difference means.  A killed stage leaves `<stage>/.partial-<key>/` behind; the next run gets that
same directory and may continue from what it finds there.  One process computes a key while others wait on its lock and
then reuse the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, TypeVar

from filelock import FileLock

from fusion.runtime.configure import Refusal, plain
from fusion.runtime.digests import content_key, directory_key, file_digest, stamp
from fusion.runtime.disk import disk_fault
from fusion.runtime.fingerprint import code_digest
from fusion.runtime.reading import decoded, read_object
from fusion.runtime.stage import Advance, Stage, StageRecipe, unseen
from fusion.runtime.versions import differences, git_commit, made_with, versions

T = TypeVar("T")

# What an artifact made with other library versions, or on another device, is: another's work that is computed again, as
# good as one's own but worth a word, or simply as good.
Reuse = Literal["same_versions", "warn", "any"]

# Beyond this size a finished file is hashed once, and again only when the file system says that it changed.
_ALWAYS_HASH_BELOW = 256 * 2**20
_SEEN = ".seen.json"


class FileNote(TypedDict):
    """What a manifest notes of a file."""

    bytes: int
    sha256: str


class Manifest(TypedDict, total=False):
    """What a finished directory says of itself; those of older versions lack some of it."""

    stage: str
    key: str
    config: Any
    """As `fusion.runtime.configure.plain` spells it."""
    inputs: Mapping[str, str]
    code: str
    modules: Sequence[str]
    seed: int | None
    facts: Mapping[str, Any]
    """What its stage returned: each kind of stage has its own."""
    files: Required[Mapping[str, FileNote]]
    logs: Sequence[str]
    made_with: Mapping[str, str]
    versions: Mapping[str, str]
    git_commit: str | None
    wall_seconds: float
    peak_memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished stage output: its files lie in `path`, and `manifest` says how they came to be."""

    stage: str
    key: str
    path: Path
    manifest: Manifest
    reused: bool
    # In words, what it was made with that is not what is here.
    differs: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """A key of what it holds, logs apart, whatever recipe it was made by: what stages made from it are keyed by."""
        return content_of(self.manifest)

    def read(self, reader: Callable[[Path], T], *, stand_in: Callable[[str], T]) -> T:
        """What `reader` finds in its folder; of an artifact that is only planned, what `stand_in` makes of its key."""
        return reader(self.path)


def read_manifest(directory: Path) -> Manifest:
    """What a finished directory says of itself.  Raises Refusal for one that has no manifest, or a damaged one."""
    file = directory / "manifest.json"
    found = read_object(file, expected="the manifest of a finished stage")
    wrong = [name for name, kind in _FORMS.items() if name in found and not isinstance(found[name], kind)]
    files = found.get("files")
    if wrong or not isinstance(files, dict) or not all(_is_note(name, note) for name, note in files.items()):
        raise Refusal(
            f"{file} is no manifest of a finished stage (at fault: {', '.join(wrong) or 'files'}): run what made it"
            " again"
        )
    manifest: Manifest = found  # type: ignore[assignment]  # checked above
    return manifest


def known_manifest(directory: Path) -> Manifest | None:
    """What a finished directory says of itself; None where it has no manifest that can be read."""
    try:
        return read_manifest(directory)
    except (Refusal, OSError):
        return None


_FORMS: Mapping[str, type | tuple[type, ...]] = {
    "stage": str,
    "key": str,
    "inputs": dict,
    "code": str,
    "modules": list,
    "facts": dict,
    "logs": list,
    "made_with": dict,
    "versions": dict,
    "wall_seconds": (int, float),
}


def _is_note(name: str, note: object) -> bool:
    """Whether it describes a file, by a name that leads to nowhere outside of the directory."""
    if Path(name).is_absolute() or ".." in Path(name).parts or not isinstance(note, dict):
        return False
    return type(note.get("bytes")) is int and isinstance(note.get("sha256"), str)


def content_of(manifest: Manifest) -> str:
    """The content of the artifact that a manifest describes."""
    files, logs = manifest["files"].items(), manifest.get("logs", ())
    return content_key([(name, noted["sha256"]) for name, noted in files if name not in logs])


@dataclass(frozen=True, kw_only=True)
class Store:
    """The artifact store below `root`; safe to share between processes and, with a file system that locks, machines."""

    root: Path
    reuse: Reuse = "warn"

    def key(self, recipe: StageRecipe) -> str:
        """The key of a stage's output, without computing it."""
        inputs = dict(sorted(recipe.inputs.items()))
        parts = [recipe.name, plain(recipe.config), inputs, code_digest(recipe.code)]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def path(self, stage: str, key: str) -> Path:
        """Where the finished output lives."""
        return self.root / stage / key

    def directory_key(self, directory: Path) -> str:
        """The key of a checkpoint's files; their digests are remembered below the root."""
        return directory_key(directory, self.root / "digests.json")

    def unfinished(self, stage: str, key: str) -> Path:
        """Where an attempt that did not finish left what it had."""
        return self.root / stage / f".partial-{key}"

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """What a finished output says of itself, None when there is none, or none that can be read; its files are not
        checked."""
        return known_manifest(self.path(stage, key))

    def produce(self, stage: Stage, advance: Advance = unseen) -> Artifact:
        """The stage's finished artifact, built now or found from before.

        Raises Refusal when the disk is full, fails, or may not be written; whatever else `build` raises passes through.
        Both leave the partial directory for the next attempt.
        """
        try:
            return self._produced(stage, advance)
        except Refusal:
            raise
        except Exception as error:
            fault = disk_fault(error)
            if fault is None:
                raise
            raise Refusal(
                f"{stage.name} cannot be written to the artifact store {self.root}: {fault} (paths.artifacts says where"
                " the store is); finished work is kept"
            ) from error

    def _produced(self, stage: Stage, advance: Advance) -> Artifact:
        key = self.key(stage)
        final = self.path(stage.name, key)
        environment = made_with(stage.libraries, device=stage.device)
        found = self._found(stage.name, key, environment)
        if found is not None:
            return found
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.parent / f".lock-{key}"):
            found = self._found(stage.name, key, environment)
            if found is not None:
                return found
            partial = self.unfinished(stage.name, key)
            partial.mkdir(exist_ok=True)
            started = time.monotonic()
            facts = stage.build(partial, advance)
            manifest: Manifest = {
                "stage": stage.name,
                "key": key,
                "config": plain(stage.config),
                "inputs": dict(stage.inputs),
                "code": code_digest(stage.code),
                "modules": list(stage.code),
                "seed": stage.seed,
                "facts": dict(facts or {}),
                "files": _describe(partial),
                "logs": list(stage.logs),
                "made_with": environment,
                "versions": versions(),
                "git_commit": git_commit(),
                "wall_seconds": round(time.monotonic() - started, 3),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
            _finish(partial, final, manifest)
            self._note_built(stage.name, key)
        return Artifact(stage=stage.name, key=key, path=final, manifest=manifest, reused=False)

    def built(self) -> list[tuple[str, str]]:
        """Every (stage, key) that was ever computed in this store, in order: a stage that ran twice is there twice."""
        log = self.root / "built.jsonl"
        rows = [decoded(line) for line in log.read_bytes().splitlines()] if log.exists() else []
        return [(row["stage"], row["key"]) for row in rows]

    def _note_built(self, stage: str, key: str) -> None:
        line = json.dumps({"stage": stage, "key": key, "time": time.time()}) + "\n"
        with (self.root / "built.jsonl").open("a") as stream:
            stream.write(line)

    def _found(self, stage: str, key: str, environment: Mapping[str, str]) -> Artifact | None:
        """What is there already and may be used; says why where something is there that may not."""
        final = self.path(stage, key)
        if not final.exists():
            return None
        try:
            manifest = read_manifest(final)
            fault = _fault(final, manifest["files"])
        except Refusal:
            fault = f"the manifest of {final} is damaged"
        if fault:
            warnings.warn(f"{fault}: {stage} is rebuilt", stacklevel=1)
            return None
        differs = differences(manifest.get("made_with", {}), environment)
        if differs and self.reuse == "same_versions":
            warnings.warn(
                f"{final} was made with {', '.join(differs)}: {stage} is computed again (reuse: warn or any takes it)",
                stacklevel=1,
            )
            return None
        known = differs if self.reuse == "warn" else ()
        return Artifact(stage=stage, key=key, path=final, manifest=manifest, reused=True, differs=known)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts):
            yield path


def _describe(directory: Path) -> dict[str, FileNote]:
    described: dict[str, FileNote] = {}
    for path in _files(directory):
        name = str(path.relative_to(directory))
        if name != "manifest.json":
            described[name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    return described


def _fault(directory: Path, noted: Mapping[str, FileNote]) -> str:
    """Why a finished directory is not what was written there; empty when it is."""
    present = {str(path.relative_to(directory)) for path in _files(directory)} - {"manifest.json"}
    if present - noted.keys():
        return f"{directory / min(present - noted.keys())} was not written with the rest"
    seen = _seen(directory)
    news = {}
    for name, entry in noted.items():
        path = directory / name
        if name not in present or path.stat().st_size != entry["bytes"]:
            return f"{path} is not the file that was written there"
        large = entry["bytes"] >= _ALWAYS_HASH_BELOW
        if large and seen.get(name) == stamp(path):
            continue
        if file_digest(path) != entry["sha256"]:
            return f"{path} is not the file that was written there"
        if large:
            news[name] = stamp(path)
    if news:
        with contextlib.suppress(OSError):  # somebody else's store, that may be read only
            _write(directory / _SEEN, json.dumps(seen | news))
    return ""


def noted_digest(path: Path) -> str | None:
    """The sha256 of a large file of an artifact, as long as the file system says that it is as it was when it was
    hashed; None for anything else."""
    for directory in list(path.parents)[:2]:
        name = str(path.relative_to(directory))
        if _seen(directory).get(name) == stamp(path):
            with contextlib.suppress(Refusal, KeyError):
                return read_manifest(directory)["files"][name]["sha256"]
    return None


def _seen(directory: Path) -> dict[str, list[int]]:
    """By name, what the file system said of the large files when they were hashed."""
    try:
        found: dict[str, list[int]] = read_object(directory / _SEEN, expected="what was seen of large files")
    except Refusal:
        return {}
    return found


def _finish(partial: Path, final: Path, manifest: Mapping[str, object]) -> None:
    for path in sorted(partial.iterdir()):
        if path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    large = {}
    for path in _files(partial):
        path.chmod(0o644)  # safetensors writes 0600, which a server under another user could not read
        sync(path)
        if path.stat().st_size >= _ALWAYS_HASH_BELOW:
            large[str(path.relative_to(partial))] = stamp(path)
    if large:
        _write(partial / _SEEN, json.dumps(large))
    _write(partial / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    sync(partial / "manifest.json")
    replaced = final.parent / f".replaced-{final.name}"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def sync(path: Path) -> None:
    """Return when the file's, or the directory's, bytes are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
