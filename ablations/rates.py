"""How fast this machine works, measured from the manifests of a finished run in the store.

    python -m ablations.rates experiment=pocket machine='two old cores' out=conf/rates/mine.yaml

What is written is an entry of conf/rates: ablations.plan.rates says what its numbers mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.plan.rates import Rate, Rates, kinds
from fusion.runtime.command import command
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from fusion.planned import PlannedStage
    from fusion.runtime.work import Work


def measured(stages: Iterable[PlannedStage], machine: str, made_by: str) -> Rates:
    """The rates of a finished run: each kind's seconds and bytes over its work.

    Where stages of a kind differ by half in size, the time to start is separated from the time for the work by least
    squares.  Raises Refusal for a kind of which no stage is finished.
    """
    found: dict[str, list[tuple[Work, Mapping[str, Any]]]] = {kind: [] for kind in kinds()}
    for stage in stages:
        if stage.found is not None and stage.work.kind in found and stage.work.units:
            found[stage.work.kind].append((stage.work, stage.found))
    lacking = [kind for kind, runs in found.items() if not runs]
    if lacking:
        raise Refusal(f"no finished stage tells the rate of {', '.join(lacking)}: finish the experiment first")
    fitted: dict[str, Any] = {kind: _fitted(runs, made_by) for kind, runs in found.items()}
    return Rates(machine=machine, **fitted)


def _fitted(runs: list[tuple[Work, Mapping[str, Any]]], made_by: str) -> Rate:
    import numpy as np

    units = np.array([float(work.units or 0) for work, _ in runs])
    seconds = np.array([max(float(manifest["wall_seconds"]), 1e-3) for _, manifest in runs])
    start, slope = 0.0, float(seconds.sum() / units.sum())
    if units.max() > 1.5 * units.min():
        line_slope, line_start = np.polyfit(units, seconds, 1)
        if line_slope > 0 and line_start > 0:
            start, slope = float(line_start), float(line_slope)
    written = sum(entry["bytes"] for _, manifest in runs for entry in manifest["files"].values())
    items = sum(work.items for work, _ in runs)
    beside = max(0.0, written - sum(work.bytes for work, _ in runs))
    return Rate(
        per_second=_digits(1 / slope),
        start=_digits(start),
        bytes_each=_digits(beside / items) if items else 0.0,
        source=f"measured: {made_by}",
    )


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def run(settings: dict[str, Any]) -> None:
    """Measure the rates of the experiment's finished stages and write them to `out`."""
    import yaml

    from ablations.plan.book import book_of
    from fusion.runtime.next_step import say_next
    from fusion.runtime.places import settings_file

    book = book_of([settings])
    made_by = f"experiment={settings['name']}"
    rates = measured(book.stages.values(), str(settings["machine"]), made_by)
    out = Path(settings["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        f"# Measured by python -m ablations.rates {made_by} from the manifests of a finished run.\n"
        + yaml.safe_dump(dataclasses.asdict(rates), sort_keys=False, width=110)
    )
    print(table(rates))
    print(f"rates: {out}")
    # It is an entry where the groups of settings are looked up; elsewhere it has to be put there first.
    found = settings_file(f"rates/{out.name}")
    entry = [f"rates={out.stem}"] if found is not None and found.samefile(out) else []
    say_next("python", "-m", "ablations", "plan=true", made_by, *entry)


def table(rates: Rates) -> str:
    """The rates in aligned columns."""
    rows = [("work", "units a second", "seconds to start", "bytes an item")]
    for kind in kinds():
        rate = rates.of(kind)
        assert rate is not None
        rows.append((kind, f"{rate.per_second:,.4g}", f"{rate.start:,.3g}", f"{rate.bytes_each:,.3g}"))
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(cells) for cells in aligned)


if __name__ == "__main__":
    command("measure_rates", run)
