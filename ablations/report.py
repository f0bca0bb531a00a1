"""python -m ablations.report cells=STUDY_OR_DIR out=DIR: one report from any set of finished cells.

scores.csv holds every row of every cell, with a column per swept axis, `seed` and `cell`.  The leaderboard pools the
seeds: the same question answered in several runs counts as one question with several answers.  A model that a swept
axis changes is shown once for each value of the axis; a model whose weights are the same in all cells is shown once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fusion.command import command


def run(settings: dict[str, Any]) -> None:
    """Write the report of the cells that `cells` names into `out`."""
    from ablations.cell import find_cells
    from ablations.findings import write_findings
    from ablations.pooling import cells_directory, long_table, pooled
    from ablations.show import show
    from ablations.studies import STUDIES
    from eval.report import write_report
    from eval.scores.intervals import Bootstrap
    from fusion.configure import typed

    out = Path(settings["out"])
    bootstrap = typed(settings["report"], Bootstrap, at="report")
    cells = find_cells(cells_directory(str(settings["cells"]), Path(settings["paths"]["artifacts"])))
    title = ", ".join(dict.fromkeys(cell.experiment for cell in cells))
    pages = {f"answers of {cell.name}": cell.path / "answers.html" for cell in cells}
    links = {label: os.path.relpath(page, out) for label, page in pages.items() if page.exists()}
    table = write_report(pooled(cells, bootstrap), out, title=title, bootstrap=bootstrap, links=links)
    long_table(cells).to_csv(out / "scores.csv", index=False, lineterminator="\n")
    show(table, out)
    for name in dict.fromkeys(cell.study for cell in cells if cell.study):
        study = STUDIES[name]
        own = [cell for cell in cells if cell.study == name]
        also = study.also(own, bootstrap) if study.also else ()
        print(write_findings(name, study, study.analyse(own, bootstrap), out, also=also))


if __name__ == "__main__":
    command("report", run)
