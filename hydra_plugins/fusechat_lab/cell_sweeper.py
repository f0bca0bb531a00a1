"""Hydra's product of the axes, launched as cells of which finished ones stay finished and failed ones stop nobody."""

from __future__ import annotations

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class CellSweeper(BasicSweeper):
    """The basic sweeper's cells, in its order and spelling; what happens to them is ablations.sweep.launch's."""

    def sweep(self, arguments: list[str]) -> object:
        """Launch the cells that `arguments` and the study's axes make.  Exits with their status if any failed."""
        from ablations.sweep.launch import launch_cells

        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        given = [*self._parse_config(), *arguments]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(given)
        (cells,) = self.split_arguments(parsed, None)
        launch_cells(cells, self.config, loader, self.launcher, at_once=self.max_batch_size)
        return []
