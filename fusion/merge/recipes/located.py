"""Where the models of a recipe lie: directories, and adapters with their bases."""

from __future__ import annotations

from pathlib import Path

from fusion.merge.checkpoints import adapters
from fusion.runtime.configure import Refusal


def same_model(name: str, directory: Path, near: Path) -> bool:
    """Whether a model's name leads to this directory, however it is written."""
    found = path_of(name, near)
    return found.is_dir() and directory.is_dir() and found.samefile(directory)


def path_of(name: str, near: Path) -> Path:
    """Where a model's name leads: from here, or else from `near`; it need not be there."""
    path = Path(name).expanduser()
    return path if path.is_dir() or path.is_absolute() else near / path


def located(name: str, base: str | None, near: Path, adapted: dict[Path, tuple[Path, Path]]) -> Path:
    """The directory of a model; for an adapter, with its base before a + or by itself, a path of its own that is noted
    in `adapted`."""
    found = path_of(name, near)
    if found.is_dir() and not adapters.is_adapter(found):
        return found
    before, plus, after = name.partition("+")
    if found.is_dir():  # an adapter by itself
        below, adapter = base or adapters.base_of(found), found
        if not path_of(below, near).is_dir():
            raise Refusal(
                f"{name} is an adapter, and its base {below or '(not noted)'} is no directory here: give"
                " base_model, or the model as BASE_DIRECTORY+ADAPTER_DIRECTORY"
            )
    elif plus:
        below, adapter = before, path_of(after, near)
    else:
        below, adapter = name, None
    directory = path_of(below, near)
    if not directory.is_dir() or adapter is None:
        raise Refusal(f"there is no model directory {below}: merging reads local directories; fetch a hub model first")
    if not adapters.is_adapter(adapter):
        raise Refusal(f"{name}: {after} is no adapter directory: expected one with {adapters.CONFIG} after the +")
    place = Path(f"{directory}+{adapter}")
    adapted[place] = (directory, adapter)
    return place
