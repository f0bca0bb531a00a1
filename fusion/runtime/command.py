"""The door of every command: Hydra composes the settings, the command gets a plain mapping, refusals are one message.

    def run(settings: dict) -> None: ...
    if __name__ == "__main__":
        command("fusion", run)

Exit status: 0 done, 1 the command says so by returning a number, 2 the input was refused, 130 an interrupt ended it.
Nothing ends in a traceback: what a disk refuses is one sentence, and an error that nobody foresaw is one message that
names the file where its traceback is kept.  `debug=true` among the arguments shows the traceback of a refusal.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import re
import select
import sys
import tempfile
import textwrap
import traceback
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TextIO

from omegaconf import OmegaConf

from fusion.runtime.configure import Refusal, nearest
from fusion.runtime.disk import disk_fault
from fusion.runtime.hints import unknown_setting, written_settings
from fusion.runtime.interrupt import ending_at_once
from fusion.runtime.places import CONF, OWN, places, settings_file, settings_names
from fusion.runtime.processes import processor_settings
from fusion.runtime.reading import read_yaml
from fusion.runtime.visible import visible

_HERE = Path(__file__).parents[2]
_OWN_PARTS = ("fusion", "eval", "ablations")
# Most file systems take 255 bytes; a name must also fit beside what a copy or an archive adds to it.
_LONGEST_NAME = 160
GROUPS = (
    "experiment",
    "model",
    "data",
    "align",
    "fuse",
    "train",
    "objective",
    "merge",
    "serve",
    "benchmark",
    "judge",
    "ensembles",
    "study",
    "row",
    "compare",
    "rates",
    "launcher",
    "tracking",
)


def command(
    root: str,
    run: Callable[[dict[str, object]], int | None],
    *,
    arguments: Callable[[Sequence[str]], list[str]] = list,
    alone: bool = False,
    unused: Collection[str] = (),
) -> NoReturn:
    """Compose `conf/<root>.yaml` with the command line's overrides, call `run`, and exit.

    Without arguments it prints its help and ends with status 2, unless it does something `alone`.
    `arguments` may say in full what the command line says in short.  With `-m`, or a study that asks for it, Hydra
    calls `run` once for each cell of the sweep.  `unused` are config groups that are composed for other commands'
    sake and have no effect on this one, so that --help leaves them out.
    """
    debug = any(argument.replace(" ", "").lower() == "debug=true" for argument in sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and exiting, so that we give the message
    for name, value in processor_settings().items():  # torch and numpy are not imported yet
        os.environ.setdefault(name, value)
    warnings.showwarning = _show_warning
    try:
        status = _status(root, run, arguments, alone=alone, unused=unused, debug=debug)
        sys.stdout.flush()
    except Refusal as refusal:
        status = _refused(str(refusal), debug)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            status = 0
        elif _from_hydra(error):
            status = _refused(hydra_message(error, root), debug)
        else:
            status = _refused(disk_fault(error) or _unforeseen(error), debug)
    sys.exit(status)


def _status(
    root: str,
    run: Callable[[dict[str, object]], int | None],
    arguments: Callable[[Sequence[str]], list[str]],
    *,
    alone: bool,
    unused: Collection[str],
    debug: bool,
) -> int:
    _look_first_in(sys.argv[1:])
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(root, unused=unused))
        return 0
    if not sys.argv[1:] and not alone:
        print(help_text(root, unused=unused), file=sys.stderr)
        return 2
    with ending_at_once():
        sys.argv[1:] = arguments(sys.argv[1:])
        return _composed(root, run, debug)


def _nobody_reads() -> bool:
    """Whether what read our stdout has gone, as `head` goes; then nothing more is written there."""
    try:
        written = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file of the system
        return False
    asked = select.poll()
    asked.register(written, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0)):
        return False
    with open(os.devnull, "w") as nowhere:  # Python flushes once more at its end
        os.dup2(nowhere.fileno(), written)
    return True


def _unforeseen(error: Exception) -> str:
    """An error that no part of the program expected, in one message; the traceback is kept for whoever mends it."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="fusechat-lab-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
    ) as kept:
        kept.write("".join(traceback.format_exception(error)))
    said = next(iter(str(error).strip().splitlines()), "")
    return (
        f"this led to an error that was not foreseen ({type(error).__name__}: {said[:300]}): where it happened is in"
        f" {kept.name}; please report it with the command"
    )


def compose(root: str, overrides: list[str]) -> dict[str, object]:
    """What `conf/<root>.yaml` with `overrides` gives, as plain types; raises Refusal as `command` does."""
    import hydra

    try:
        with hydra.initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            composed = hydra.compose(root, overrides=overrides)
    except Exception as error:
        if not _from_hydra(error):
            raise
        raise Refusal(hydra_message(error, root)) from error
    return plain_settings(composed)


def help_text(root: str, *, unused: Collection[str] = ()) -> str:
    """The first comment of `conf/<root>.yaml`, the command's config groups, and its settings as they are written there.

    Read from the files without composing them, so that --help is immediate.
    """
    whole = (CONF / f"{root}.yaml").read_text()
    comment = [line[2:] for line in itertools.takewhile(lambda line: line.startswith("#"), whole.splitlines())]
    groups, settings = _groups_and_settings(root)
    entries = {group: group_names(group) for group in dict.fromkeys(groups) if group not in unused}
    found = [*comment, ""]
    if entries:
        found += ["Config groups, given as group=entry:", ""]
        for group, names in entries.items():
            found += textwrap.wrap(
                f"{group}: {', '.join(names)}", 118, initial_indent="  ", subsequent_indent=" " * (len(group) + 4)
            )
        found.append("")
    found += ["Settings and their defaults:", "", *(f"  {line}" for line in settings), ""]
    return "\n".join([*found, "--cfg job prints all settings with what the groups and the command line make of them."])


def _groups_and_settings(root: str) -> tuple[list[str], list[str]]:
    """The groups among the defaults of a file and of the files it includes, and the lines of their settings."""
    import yaml

    lines = (CONF / f"{root}.yaml").read_text().splitlines()
    top = [number for number, line in enumerate(lines) if line[:1].isalpha()]  # where a top-level key begins
    groups: list[str] = []
    settings: list[str] = []
    for begin, end in itertools.pairwise([*top, len(lines)]):
        key = lines[begin].split(":")[0]
        if key == "defaults":
            for entry in yaml.safe_load("\n".join(lines[begin:end]))["defaults"]:
                if isinstance(entry, dict):
                    groups += [group for group in entry if not group.startswith("override ")]
                elif entry != "_self_":
                    more, inherited = _groups_and_settings(entry)
                    groups += more
                    settings += inherited
        elif key != "hydra":
            settings += lines[begin:end]
    return groups, [line for line in settings if line.strip() and not line.startswith("#")]


def plain_settings(composed: object) -> dict[str, object]:
    """What Hydra composed as plain types.  Raises Refusal for a value that is missing or leads nowhere."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise Refusal(hydra_message(error)) from error
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def group_entry(group: str, name: str) -> dict[str, object]:
    """One file of a config group as plain types, for settings that name an entry (a pivot, a source).

    Raises Refusal for a name without a file, and for a file that holds no settings.
    """
    import yaml
    from omegaconf.errors import OmegaConfBaseException

    path = settings_file(f"{group}/{name}.yaml")
    if path is None:
        raise Refusal(f"{group} '{name}' is not in conf/{group}: {nearest(name, group_names(group))}")
    expected = f"settings as {group}={name} chooses them"
    read_yaml(path, expected=expected)  # refuses what is none, or has no end
    try:
        entry = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise Refusal(f"{path} cannot be taken ({' '.join(str(error).split())}): expected {expected}") from error
    if not isinstance(entry, dict):
        raise Refusal(f"{path} holds no settings by name: expected {expected}")
    return {str(key): value for key, value in entry.items()}


def group_names(group: str) -> list[str]:
    """The entries of a config group in all places, those of its folders as folder/entry."""
    return settings_names(group, ".yaml")


def hydra_message(error: BaseException, root: str | None = None) -> str:
    """Hydra's or OmegaConf's own refusal in one line, with the nearest valid name where it speaks of a name; `root` is
    the command's own file in conf/."""
    text = str(error).strip()
    missing_choice = re.search(r"Could not (?:find|load) '(\w+)/([^']+)'", text)
    if missing_choice and missing_choice.group(1) in GROUPS:
        group, name = missing_choice.groups()
        return f"{group}={name}: there is no such entry in conf/{group}: {nearest(name, group_names(group))}"
    unknown_key = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if unknown_key:
        path = getattr(error, "full_key", None) or unknown_key.group(1)
        inside = getattr(error.__cause__, "full_key", None) or path
        return unknown_setting(path, _written(root), inside=inside) if root else f"unknown key '{path}'"
    if "Missing mandatory value" in text:
        place = getattr(error, "full_key", None) or text.split(":")[-1].split()[0]
        return f"{place} is missing: give it as {place}=VALUE"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Set the environment")]
    return " ".join(lines) or type(error).__name__


def _written(root: str) -> Mapping[str, tuple[str, ...]]:
    """Where a command's settings are written: in its own file in conf/, or by which entries of its groups."""
    import yaml

    groups, settings = _groups_and_settings(root)
    files = [path for group in ("experiment", *groups) for path in (CONF / group).rglob("*.yaml")]
    return written_settings(yaml.safe_load("\n".join(settings)), CONF, files)


def cell_folder(overrides: str) -> str:
    """The overrides as the name of a sweep's cell, cut and marked with a digest where a file system would refuse it."""
    spelt = overrides.encode()
    if len(spelt) <= _LONGEST_NAME:
        return overrides
    return f"{spelt[: _LONGEST_NAME // 2].decode(errors='ignore')}...{hashlib.sha256(spelt).hexdigest()[:12]}"


# In every process that unpickles a task, so that a launcher's processes can name the cells' folders.
OmegaConf.register_new_resolver("cell_folder", cell_folder, replace=True)


@dataclass
class _Task:
    """What Hydra calls once for each composition; no closure, so that a launcher can send it to other processes."""

    run: Callable[[dict[str, object]], int | None]
    debug: bool
    statuses: list[int] = field(default_factory=list)

    def __call__(self, composed: object) -> None:
        try:  # caught here: Hydra would print lines of its own, and end a sweep's other cells
            self.statuses.append(self.run(plain_settings(composed)) or 0)
        except Refusal as refusal:
            self.statuses.append(_refused(str(refusal), self.debug))


def _look_first_in(given: Sequence[str]) -> None:
    """Have the folder of --config-dir searched before all others, by Hydra and by what looks entries up.

    Raises Refusal for one that is not there.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config-dir", "-cd")
    folder = reader.parse_known_args(given)[0].config_dir
    if folder is not None:
        os.environ[OWN] = str(Path(folder).absolute())
    places()


def _composed(root: str, run: Callable[[dict[str, object]], int | None], debug: bool) -> int:
    import hydra

    task = _Task(run, debug)
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=root)(task)()
    return max(task.statuses, default=0)


def _from_hydra(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("hydra", "omegaconf", "antlr4")


def _refused(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"refused: {visible(message, lines=True)}", file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if category is UserWarning and any(Path(filename).is_relative_to(_HERE / part) for part in _OWN_PARTS):
        print(f"note: {visible(str(message), lines=True)}", file=sys.stderr)
