"""The task files that lm-eval is given: where they lie, what they are made of, which documents of a task are asked.

A folder is one of the project's own, below `conf/lm_eval_tasks`, or anybody's.  In its YAML files `$TASK_FOLDER` stands
for the folder and `$DATA` for `paths.data`, so that a task may name files that lie beside it or were fetched.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eval.benchmarks.protocol import find
from fusion.runtime.digests import content_key, file_digest
from fusion.runtime.places import places

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

_OWN = "lm_eval_tasks"
_NAMED_DATA = re.compile(r"\$DATA/([^\s,\]}'\"]+)")


def folder_of_tasks(name: str | None, data: Path) -> Path | None:
    """The folder: of `conf/lm_eval_tasks` by its name, else below `data` or absolute; None for the package's own tasks.

    Raises Refusal for one that is not there.
    """
    if name is not None and re.fullmatch(r"\w[\w-]*", name):
        for place in places():
            if (place / _OWN / name).is_dir():
                return place / _OWN / name
    return find(name, data, what="the folder of lm-eval tasks")


def folder_digest(folder: Path, data: Path) -> str:
    """A key of every file in the folder, and of every file of `data` that they name; raises Refusal for one of these
    that is not there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = sorted({name for path in files if _is_task(path) for name in _NAMED_DATA.findall(path.read_text())})
    parts = [(str(path.relative_to(folder)), file_digest(path)) for path in files]
    return content_key([*parts, *((f"$DATA/{name}", file_digest(_data_file(name, data))) for name in named)])


@contextmanager
def task_files(folder: Path | None, data: Path) -> Iterator[Path | None]:
    """The folder as the harness is to read it: copies of its YAML and Python files, with the places filled in."""
    if folder is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as copies:
        for path in folder.rglob("*"):
            if path.is_file() and _is_task(path):
                copy = Path(copies) / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                text = path.read_text().replace("$TASK_FOLDER", str(folder.resolve()))
                copy.write_text(_NAMED_DATA.sub(lambda found: str(_data_file(found[1], data).resolve()), text))
        yield Path(copies)


def drawn_documents(manager: TaskManager, task: str, count: int | None, *, seed: int) -> dict[str, list[int]] | None:
    """Of a task, or of each task of a group, the places of `count` documents drawn by the seed; None for all."""
    if count is None:
        return None
    found = manager.load([task])["tasks"]
    return {name: drawn(len(one.eval_docs), count, seed=f"{seed} {name}") for name, one in found.items()}


def drawn(size: int, count: int, *, seed: str) -> list[int]:
    """`count` of the places below `size` in their order, all where there are no more."""
    return sorted(random.Random(seed).sample(range(size), min(count, size)))


def _is_task(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml", ".py")


def _data_file(name: str, data: Path) -> Path:
    found = find(name, data, what=f"a file that lm-eval's task reads ({name})")
    assert found is not None
    return found
