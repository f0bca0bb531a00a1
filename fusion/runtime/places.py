"""Where settings are found: a folder the caller names, then `conf/` where she stands, then the project's own.

Each is laid out alike: a folder for each config group (`model`, `data`, `experiment`) and one for chat templates.
What is looked for is taken from the first folder that has it, so hers need hold no more than what she adds or
replaces, and nothing of hers goes into a clone or an installed package.
"""

from __future__ import annotations

import os
from pathlib import Path

from fusion.runtime.configure import Refusal

# Names one folder more, found before all others; --config-dir sets it, so that the processes of a sweep look there too.
OWN = "FUSECHAT_LAB_CONF"
_PACKED = Path(__file__).parents[1] / "conf"  # where a wheel holds what a clone has at its top
CONF = _PACKED if _PACKED.is_dir() else Path(__file__).parents[2] / "conf"


def places() -> tuple[Path, ...]:
    """The folders, in the order in which they are searched; the project's own is the last.

    Raises Refusal for a folder that was named and is not there.
    """
    found = [CONF]
    beside, own = Path.cwd() / "conf", os.environ.get(OWN)
    if beside.is_dir() and not beside.samefile(CONF):
        found.insert(0, beside)
    if own:
        named = Path(own).expanduser().absolute()
        if not named.is_dir():
            raise Refusal(
                f"--config-dir, or {OWN}, is {own}: there is no such folder; expected one with a folder for each config"
                " group, such as model/ and experiment/"
            )
        found.insert(0, named)
    return tuple(found)


def settings_file(file: str) -> Path | None:
    """The first file of this name, `model/mine.yaml`; None where no folder has it."""
    return next((place / file for place in places() if (place / file).is_file()), None)


def settings_names(folder: str, suffix: str) -> list[str]:
    """What the folders hold of `folder` by this suffix, without it; those further down as folder/name."""
    found = {
        path.relative_to(place / folder).with_suffix("").as_posix()
        for place in places()
        for path in (place / folder).rglob(f"*{suffix}")
    }
    return sorted(found)
