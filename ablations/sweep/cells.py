"""A sweep's cells before anything is launched: the lists of overrides that Hydra's BasicSweeper will make of a command.

    sweep = expand("ablations", ["experiment=pocket", "study=merge_rule", "seed=0,1"])
    sweep.multirun           # True: by -m, or because the study asks for it
    sweep.cells[0]           # ('merge=[linear,...]', 'seed=0', 'experiment=pocket', ...)
    sweep.compose(sweep.cells[0])   # its settings and name

Parsing, the product of the axes and composing are Hydra's own, so order and spelling are those of the launched cells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusion.runtime.command import cell_folder, hydra_message
from fusion.runtime.configure import Refusal
from fusion.runtime.places import CONF

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import DictConfig


@dataclass(frozen=True, kw_only=True)
class ComposedCell:
    """What a cell's task is given: `settings` as plain types, and `name`, Hydra's `override_dirname`."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """`cells`: each cell's overrides, in the order of launching; a run that is no sweep has one."""

    multirun: bool
    root: str  # the command's
    cells: tuple[tuple[str, ...], ...]
    master: DictConfig
    loader: ConfigLoaderImpl

    def compose(self, cell: Sequence[str]) -> ComposedCell:
        """The cell as Hydra composes it.  Raises Refusal where Hydra would refuse."""
        from omegaconf import OmegaConf, open_dict

        with _refusing(self.root):
            composed = self.loader.load_sweep_config(self.master, [*cell])
            name = composed.hydra.job.override_dirname
            with open_dict(composed):
                del composed["hydra"]
            settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        assert isinstance(settings, dict)
        return ComposedCell(name=name, settings={str(key): value for key, value in settings.items()})


def expand(root: str, arguments: Sequence[str], *, multirun: bool = False) -> Sweep:
    """The cells of `python -m <root> arguments`; `multirun`: whether -m was given.

    Raises Refusal for overrides that Hydra does not understand, and for a sweeper other than Hydra's basic one.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra._internal.utils import create_config_search_path
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.utils import setup_globals
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    setup_globals()
    OmegaConf.register_new_resolver("cell_folder", cell_folder, replace=True)
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(CONF)))
    with _refusing(root):
        master = loader.load_configuration(
            config_name=root, overrides=[*arguments], run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False
        )
        task = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
        assert isinstance(task, list)
        multirun = multirun or master.hydra.mode == RunMode.MULTIRUN
        if not multirun:
            return Sweep(root=root, multirun=False, cells=(tuple(task),), master=master, loader=loader)
        sweeper = master.hydra.sweeper
        if not sweeper._target_.endswith((f".{BasicSweeper.__name__}", ".CellSweeper")):
            raise Refusal(
                f"the sweeper is {sweeper._target_}: the cells of any but Hydra's basic one are not known before"
            )
        given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*given, *task])
        (cells,) = BasicSweeper.split_arguments(parsed, None)
    return Sweep(root=root, multirun=True, cells=tuple(tuple(cell) for cell in cells), master=master, loader=loader)


@contextlib.contextmanager
def _refusing(root: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf", "antlr4"):
            raise
        raise Refusal(hydra_message(error, root)) from error
