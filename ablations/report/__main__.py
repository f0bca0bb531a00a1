"""python -m ablations.report cells=STUDY_OR_DIR out=DIR [compare=fusechat_v2]: one report of finished cells.

scores.csv holds every row of every cell, with a column per swept axis, `seed` and `cell`.  The leaderboard pools the
seeds: the same question answered in several runs counts as one question with several answers.  A model that a swept
axis changes is shown once for each value of the axis; others are shown once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.runtime.command import command

if TYPE_CHECKING:
    import pandas as pd

    from ablations.cell import Cell


def run(settings: dict[str, Any]) -> None:
    """Write the report of the cells that `cells` names into `out`."""
    from ablations.cell import find_cells, with_tables
    from ablations.made_by import disagreements
    from ablations.report.pooled import write_pooled_report
    from ablations.report.published import Published
    from ablations.sweep.files import cells_directory
    from eval.report.terminal import show
    from eval.scores.intervals import Uncertainty
    from fusion.runtime.configure import typed

    out = Path(settings["out"])
    uncertainty = typed(settings["report"], Uncertainty, at="report")
    published = typed(settings["compare"], Published, at="compare") if settings.get("compare") else None
    where = cells_directory(str(settings["cells"]), Path(settings["paths"]["artifacts"]))
    models = tuple(settings.get("rows", ()))
    cells = with_tables(find_cells(where))
    for sentence in disagreements({cell.name: cell.code for cell in cells}):
        print(f"note: {sentence}; repeat the sweep to have all by one", file=sys.stderr)
    table = write_pooled_report(cells, where, out, uncertainty=uncertainty, models=models, published=published)
    show(table, out, uncertainty=uncertainty, next_command=_next_command(table, cells, out))


def _next_command(table: pd.DataFrame, cells: Sequence[Cell], out: Path) -> list[str]:
    """A folder for the hub, of the merge that is best by the first measure; none where there is no merge on disk."""
    merged = table[(table["group"] == "Merged") & table["value"].notna()]
    if merged.empty:
        return []
    measure = ["benchmark", "metric", "slice"]
    best = merged.merge(merged[measure].head(1)).nlargest(1, "value")["row"].iloc[0]
    cell = next((cell for cell in cells if best in cell.checkpoints), None)
    if cell is None:
        return []
    return ["python", "-m", "ablations.model_card", f"cell={cell.path}", f"merged={best}", f"out={out}-{best}"]


if __name__ == "__main__":
    command("report", run)
