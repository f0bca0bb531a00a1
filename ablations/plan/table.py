"""A plan on the terminal, and as plan.json and plan.csv."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ablations.plan.charges import Charge
from ablations.plan.record import Line, Plan
from eval.judging.estimate import spelt
from eval.spreadsheet import table_csv


def print_plan(plan: Plan) -> None:
    """Print the plan: a line per kind of stage, the totals, what judges are asked, and where the rates come from."""
    gpu = any(line.gpu_hours for line in plan.lines)
    drawn = Table(show_edge=False, pad_edge=False, title_justify="left")
    drawn.add_column("stage", no_wrap=True)
    for heading in ("to compute", "reused", *(["GPU time"] if gpu else []), "CPU time", "disk"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for line in plan.lines:
        hours = [_time(line.gpu_hours, line)] if gpu else []
        counts = [f"{line.compute:,}", f"{line.reused:,}"]
        drawn.add_row(line.stage, *counts, *hours, _time(line.cpu_hours, line), _size(line.bytes))
    drawn.add_section()
    drawn.add_row("all", *_totals(plan, gpu))
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a log keeps whole columns
    console.print(f"{plan.experiment}: {len(plan.cells)} {'cells' if len(plan.cells) > 1 else 'cell'}, {plan.machine}")
    console.print(drawn)
    said = [*_judging(plan)]
    if plan.working:
        said.append(f"while training, besides: {_size(plan.working)} of working state on disk")
    for text in [*said, *plan.notes]:
        console.print(text, style=None if text in said else "dim", markup=False, highlight=False, soft_wrap=True)


def write_plan(plan: Plan, out: Path) -> Path:
    """Write plan.json (lines, stages with their keys, charges, totals, notes), which is returned, and plan.csv (the
    lines) into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [dataclasses.asdict(line) for line in plan.lines]
    (out / "plan.csv").write_text(table_csv(pd.DataFrame(lines)), encoding="utf-8")
    content = {
        "experiment": plan.experiment,
        "cells": plan.cells,
        "machine": plan.machine,
        "totals": plan.takes(),
        "lines": lines,
        "charges": [dataclasses.asdict(charge) for charge in plan.charges],
        "stages": [
            {"stage": stage.stage, "what": stage.what, "key": stage.key, "compute": stage.found is None}
            for stage in plan.stages
        ],
        "notes": plan.notes,
    }
    (out / "plan.json").write_text(json.dumps(content, indent=1) + "\n")
    return out / "plan.json"


def _judging(plan: Plan) -> Iterator[str]:
    """What each judge is asked for on each benchmark, all cells together."""
    asked: dict[tuple[str, str], list[Charge]] = {}
    for charge in plan.charges:
        asked.setdefault((charge.judge, charge.benchmark), []).append(charge)
    for (judge, benchmark), charges in asked.items():
        replies, prompt, completion = (
            sum(getattr(charge.estimate, name) for charge in charges)
            for name in ("replies", "prompt_tokens", "completion_tokens")
        )
        if not replies:
            continue
        money = [charge.money for charge in charges if charge.money is not None]
        price = f": about {spelt(sum(money))} at its price" if money else ""
        yield (
            f"{judge} on {benchmark}: {replies:,} replies, about {prompt:,.0f} prompt and {completion:,.0f} completion"
            f" tokens{price}"
        )


def _totals(plan: Plan, gpu: bool) -> list[str]:
    whole = Line(
        stage="all",
        compute=sum(line.compute for line in plan.lines),
        reused=sum(line.reused for line in plan.lines),
        gpu_hours=sum(line.gpu_hours or 0.0 for line in plan.lines),
        cpu_hours=sum(line.cpu_hours or 0.0 for line in plan.lines),
        bytes=sum(line.bytes for line in plan.lines),
        estimated=any(line.estimated for line in plan.lines),
    )
    hours = [_time(whole.gpu_hours, whole)] if gpu else []
    return [f"{whole.compute:,}", f"{whole.reused:,}", *hours, _time(whole.cpu_hours, whole), _size(whole.bytes)]


def _time(hours: float | None, line: Line) -> str:
    """A time, `~` before estimates; nothing where none is taken, a question mark where it is not known."""
    if hours is None:
        return "?"
    if not hours:
        return ""
    amount, unit = (hours, "h") if hours >= 1 else (60 * hours, "min") if hours >= 1 / 60 else (3600 * hours, "s")
    return f"{'~' if line.estimated else ''}{amount:,.{0 if amount >= 100 else 1}f} {unit}"


def _size(amount: float) -> str:
    if not amount:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:,.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"
