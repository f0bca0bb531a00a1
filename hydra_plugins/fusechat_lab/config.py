"""The settings of the plugins, under the names by which Hydra's configs choose them.

Annotations are objects here: Hydra runs a plugin's module before it can be looked up, where dataclasses look for them.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class CellSweeperConfig:
    """As for Hydra's basic sweeper: `params` are the axes, `max_batch_size` the cells launched at once."""

    _target_: str = "hydra_plugins.fusechat_lab.cell_sweeper.CellSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class RayLauncherConfig:
    """`init` goes to ray.init, `remote` to ray.remote; what is null is left to Ray."""

    _target_: str = "hydra_plugins.fusechat_lab.ray_launcher.RayLauncher"
    init: dict[str, Any] = field(default_factory=dict)
    remote: dict[str, Any] = field(default_factory=dict)


store = ConfigStore.instance()
store.store(group="hydra/sweeper", name="cells", node=CellSweeperConfig, provider="fusechat_lab")
store.store(group="hydra/launcher", name="ray", node=RayLauncherConfig, provider="fusechat_lab")
