"""A stage: one step of an experiment as a value, which a store runs or finds done, and a planner only weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from fusion.runtime.fingerprint import in_project
from fusion.runtime.work import Weigh

# What every stage computes under: another pin of threads or instruction sets is another sum in the last bits.
PINS = ("fusion.runtime.processes:thread_settings", "fusion.runtime.processes:processor_settings")


class Advance(Protocol):
    """Called with how much of a stage is done, and perhaps a few words on how it goes."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def unseen(done: int, total: int, note: str = "") -> None:
    """The `Advance` of work that nobody watches."""


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """What decides a stage's bytes, and so the key of what it leaves."""

    # The kind of stage, which is also its folder in the store.
    name: str
    # Its settings, resolved: a dataclass, or plain data.
    config: object
    # By role, the content of what it is made from (`Artifact.content`, a file's digest): never the key that content
    # was made under, so that other bytes under an old key are another input.
    inputs: Mapping[str, str]
    # Where its code begins, as `module` or `module:name`; what these use is found (fusion.runtime.fingerprint).
    modules: tuple[str, ...]

    @property
    def code(self) -> tuple[str, ...]:
        """Everywhere its code begins: its modules, the classes of its settings, which may be any of a table's, and what
        every stage computes under."""
        classes = {
            f"{kind.__module__}:{kind.__qualname__}" for kind in _classes(self.config) if in_project(kind.__module__)
        }
        return (*self.modules, *sorted(classes), *PINS)


def _classes(value: object) -> Iterator[type]:
    """The class of every dataclass in some settings, those in fields and in collections included."""
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in fields(value):
            yield from _classes(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _classes(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _classes(item)


@dataclass(frozen=True, kw_only=True)
class Stage(StageRecipe):
    """A recipe and the work of following it.

    `build(directory, advance)` writes the stage's files into `directory`, which holds what an earlier, killed attempt
    left there, and returns facts for the manifest (counts, digests) or None.  Files whose names begin with a dot are
    working state and are removed at the finish.
    """

    # Whose it is, for people: a model, or a model's answers to a benchmark.
    what: str
    build: Callable[[Path, Advance], Mapping[str, object] | None]
    seed: int | None = None
    # Packages whose version decides bytes, and the device (`auto`: this machine's): noted, and compared on reuse.
    libraries: tuple[str, ...] = ()
    device: str | None = None
    # Files that tell how the work went and are no part of the result: they do not count in its content.
    logs: tuple[str, ...] = ()
    # Whether it holds a model in memory, for which a GPU must be free.
    needs_gpu: bool = False
    # How much work it is; None: not known.
    work: Weigh | None = None


class Unfinished(Exception):
    """Some records may still be had by asking again, so the stage is not finished; `records` serve this run's table."""

    def __init__(self, records: Any, missing: int) -> None:
        super().__init__(missing)
        self.records = records
