"""What a cell or a sweep would take, before anything of it starts.

    python -m ablations plan=true experiment=fusechat_7b_v2
    python -m ablations plan=true -m experiment=pocket align=em,mined merge=linear,sce report.out=reports/plan

The pipeline itself is walked, with a store that computes nothing (`ablations.plan.store`), so every stage of a run is
counted once over all cells, and is known to be there or still to be made, with all that lies behind it.  A plan above a
`budget` is refused before the first cell starts, whichever launcher is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.plan.record import Budget, Line, Plan
from fusion.runtime.configure import Refusal, typed

if TYPE_CHECKING:
    from ablations.plan.charges import Demand
    from ablations.plan.rates import Rates
    from ablations.plan.store import PlannedStage
    from ablations.sweep.cells import Sweep


def before_start(arguments: Sequence[str]) -> None:
    """With `plan=true` among a command's arguments print the plan and end; with a budget refuse what exceeds it.

    Raises Refusal naming the budget, what the run would take, and the way out.
    """
    from hydra._internal.utils import get_args_parser

    from ablations.sweep.cells import expand

    given = get_args_parser().parse_args([*arguments])
    if given.help or given.hydra_help or given.cfg or given.info or given.shell_completion:
        return
    sweep = expand("ablations", given.overrides, multirun=given.multirun)
    if not sweep.cells:
        return
    settings = sweep.compose(sweep.cells[0]).settings
    budget = typed(settings["budget"], Budget, at="budget")
    if not settings["plan"] and not budget.given:
        return
    plan = plan_of(sweep)
    if settings["plan"]:
        from ablations.plan.table import print_plan, write_plan

        print_plan(plan)
        if settings["report"]["out"]:
            write_plan(plan, Path(settings["report"]["out"]))
    hold(plan, budget)
    if settings["plan"]:
        raise SystemExit(0)


def hold(plan: Plan, budget: Budget) -> None:
    """Raises Refusal when the plan takes more than the budget, or when what it takes is not known."""
    takes = plan.takes()
    for name, limit in budget.given.items():
        taken = takes[name]
        cells = f"{len(plan.cells)} cells" if len(plan.cells) > 1 else "this run"
        if taken is None:
            unpriced = ", ".join(dict.fromkeys(charge.judge for charge in plan.charges if charge.money is None))
            raise Refusal(
                f"budget.{name} is {limit:g} and {unpriced} has no price: give it as price of the judge,"
                " {prompt: 10, completion: 30} per million tokens, or set budget.money=null. Nothing was started"
            )
        if taken > limit:
            raise Refusal(
                f"budget.{name} is {limit:g} and {cells} would take about {taken:.3g}: raise it with"
                f" budget.{name}={_above(taken)}, or leave out cells; plan=true shows what takes how much. Nothing was"
                " started"
            )


def plan_of(sweep: Sweep) -> Plan:
    """The plan of a sweep, or of a run that is none.  Raises Refusal for settings that a cell would refuse."""
    from ablations.plan.book import book_of
    from ablations.plan.charges import Demand
    from ablations.plan.rates import Rates

    cells = [sweep.compose(cell) for cell in sweep.cells]
    asked = Demand()
    book = book_of((cell.settings for cell in cells), asked)
    first = cells[0].settings
    rates = typed(first["rates"], Rates, at="rates")
    stages = [*book.stages.values()]
    compute = [stage for stage in stages if stage.found is None]
    return Plan(
        experiment=str(first["name"]),
        cells=tuple(cell.name or "base" for cell in cells),
        machine=rates.machine,
        lines=tuple(_lines(stages, rates)),
        stages=tuple(stages),
        charges=tuple(asked.charges),
        working=max((stage.work.working for stage in compute), default=0.0) * int(first["lanes"]),
        notes=tuple(_notes(compute, asked, rates)),
    )


def _lines(stages: Sequence[PlannedStage], rates: Rates) -> Iterable[Line]:
    for name in dict.fromkeys(stage.stage for stage in stages):
        own = [stage for stage in stages if stage.stage == name]
        compute = [stage for stage in own if stage.found is None]
        hours: dict[str, float | None] = {"gpu": 0.0, "cpu": 0.0}
        for stage in compute:
            device, taken = rates.device(stage.work.kind), rates.hours(stage.work)
            known = hours[device]
            hours[device] = None if taken is None or known is None else known + taken
        used = [rates.of(stage.work.kind) for stage in compute]
        yield Line(
            stage=name,
            compute=len(compute),
            reused=len(own) - len(compute),
            gpu_hours=hours["gpu"],
            cpu_hours=hours["cpu"],
            bytes=sum(rates.bytes(stage.work) for stage in compute),
            estimated=any(rate is not None and not rate.measured for rate in used),
        )


def _notes(compute: Sequence[PlannedStage], asked: Demand, rates: Rates) -> Iterable[str]:
    for entry, why in asked.unknown.items():
        yield f"{entry}: counted as published, since its files are not there ({why.split(':')[0]})"
    if any(stage.stage == "measured" for stage in compute):
        yield "lm-eval's hours are not known: its tasks decide how much is asked"
    for judge in dict.fromkeys(charge.judge for charge in asked.charges if charge.money is None):
        yield f"{judge} has no price (judge.price), so its money is not known"
    sources: dict[str, list[str]] = {}
    for kind in dict.fromkeys(stage.work.kind for stage in compute):
        rate = rates.of(kind)
        if rate is not None:
            sources.setdefault(rate.source, []).append(kind)
    yield from (f"{', '.join(kinds)}: {source}" for source, kinds in sources.items())


def _above(value: float) -> str:
    """A round number that is enough."""
    digits = f"{value * 1.1:.1e}"
    return f"{float(digits):g}"
