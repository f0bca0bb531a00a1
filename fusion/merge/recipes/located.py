"""Where the models of a recipe lie: directories, and adapters with their bases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.merge.checkpoints import adapters
from fusion.merge.checkpoints.checkpoint_files import read_config
from fusion.runtime.configure import Refusal


def same_model(one: Path, other: Path, adapted: Mapping[Path, tuple[Path, Path]]) -> bool:
    """Whether two places of models, as `located` gives them, are one model: of the same base and adapter."""
    parts = [adapted.get(place, (place,)) for place in (one, other)]
    return len(parts[0]) == len(parts[1]) and all(a.samefile(b) for a, b in zip(*parts, strict=True))


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
    before, plus, after = _parted(name, near)
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


def _parted(name: str, near: Path) -> tuple[str, str, str]:
    """A name before and after the first + before which there is a directory, else before and after the first."""
    for place, letter in enumerate(name):
        if letter == "+" and path_of(name[:place], near).is_dir():
            return name[:place], "+", name[place + 1 :]
    return name.partition("+")


def trained_on_another(base: Path, adapter: Path, near: Path) -> str | None:
    """A word where an adapter says of itself that it was trained on another model than its base here."""
    noted = adapters.base_of(adapter)
    place = path_of(noted, near)
    if not noted or (place.is_dir() and place.samefile(base)):
        return None
    if not place.is_dir():  # a name on the hub, or a path of another machine
        names = {base.resolve().name, Path(str(read_config(base).get("_name_or_path") or "")).name}
        if Path(noted).name in names:
            return None
    return f"{adapter} says that it was trained on {noted}, and is put on {base}: expected the same weights"
