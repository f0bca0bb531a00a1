"""python -m ablations.watch cells=NAME_OR_DIR [once=true]: all cells of a sweep in one view, from any terminal.

The view is drawn again until no cell runs or waits; once, where stdout is no terminal or `once=true`.  It reads the
files that the cells keep in the sweep's folder, so the sweep may run on other machines that share it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fusion.runtime.command import command


def run(settings: dict[str, Any]) -> None:
    """Draw the cells of the sweep that `cells` names."""
    from rich.console import Console
    from rich.live import Live

    from ablations.sweep.files import cells_directory, next_step, read_cells
    from ablations.sweep.view import CellsTable
    from fusion.runtime.next_step import say_next

    folder = cells_directory(str(settings["cells"]), Path(settings["paths"]["artifacts"]))
    cells = read_cells(folder)
    console = Console()
    if settings["once"] or not console.is_terminal:
        wide = console if console.is_terminal else Console(width=200)  # a log keeps whole columns
        wide.print(f"sweep: {folder}", highlight=False, soft_wrap=True)
        table = CellsTable(cells)
        wide.print(table)
    else:
        table = CellsTable(cells, height=max(3, console.height - 4))
        with Live(get_renderable=table.__rich__, console=console, refresh_per_second=2):
            while not table.over():
                time.sleep(1)
    say_next(*next_step(folder, table.states()))


if __name__ == "__main__":
    command("watch", run)
