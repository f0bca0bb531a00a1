"""What a cell or a sweep would take, before anything of it starts.

    python -m ablations plan=true experiment=fusechat_7b_v2
    python -m ablations plan=true -m experiment=pocket align=em,mined merge=linear,sce report.out=reports/plan

The pipeline itself is walked, with a store that computes nothing (`fusion.planned`), so every stage of a run is
counted once over all cells, and is known to be there or still to be made, with all that lies behind it.  A plan above a
`budget` is refused before the first cell starts, whichever launcher is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.plan.rates import Rates
from ablations.plan.record import Budget, Line, Plan
from eval.serve import SERVERS, Serve
from fusion.planned import Unplannable
from fusion.runtime.configure import Refusal, choose, typed
from fusion.runtime.next_step import say_next
from fusion.runtime.outlook import process_outlook
from fusion.runtime.preflight import Preflight, refuse

if TYPE_CHECKING:
    from ablations.plan.charges import Demand
    from ablations.sweep.cells import Sweep
    from fusion.planned import PlannedStage


def before_start(arguments: Sequence[str]) -> None:
    """Look over the run that a command's arguments ask for, before Hydra starts it; with `plan=true` print its plan and
    end, and with a budget refuse what exceeds it.

    Raises Refusal naming all that would stop the run, or the budget, what the run would take, and the way out.
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
    plan, problems = looked_over(sweep)
    if plan is not None:
        if settings["plan"]:
            from ablations.plan.table import print_plan, write_plan

            print_plan(plan)
            if settings["report"]["out"]:
                print(f"plan: {write_plan(plan, Path(settings['report']['out']))}")
        hold(plan, budget)
    refuse(problems)
    if settings["plan"]:
        say_next("python", "-m", "ablations", *_without_plan(arguments))
        raise SystemExit(0)
    if plan is not None and not sweep.multirun:
        rates = typed(settings["rates"], Rates, at="rates")
        process_outlook().expect(
            [
                (stage.stage, stage.what, 0.0 if stage.found is not None else 3600 * (rates.hours(stage.work) or 0.0))
                for stage in plan.stages
                if stage.stage != "download"
            ],
            lanes=int(settings["lanes"]),
        )


def _without_plan(arguments: Sequence[str]) -> list[str]:
    """The arguments that start what was planned: a plan's own folder is no run's."""
    return [one for one in arguments if one.partition("=")[0].strip().lstrip("+") not in ("plan", "report.out")]


def looked_over(sweep: Sweep) -> tuple[Plan | None, list[str]]:
    """The plan of a sweep, or of a run that is none, and all that would stop it; no plan where none can be made.

    A run without a plan or a budget may go where nothing says how much it is, and a sweep although some cells are
    refused: these fail alone.
    """
    from ablations.plan.charges import Demand
    from ablations.plan.preflight import planned_problems, problems

    cells = [sweep.compose(cell).settings for cell in sweep.cells]
    first = cells[0]
    wanted = bool(first["plan"]) or bool(typed(first["budget"], Budget, at="budget").given)
    ask = typed(first["preflight"], Preflight, at="preflight").online(planning=bool(first["plan"]))
    fit, refused = _fit(cells)
    if not fit or (refused and wanted):
        return None, refused
    found, asked = problems(fit, ask=ask), Demand()
    try:
        plan = plan_of(sweep, asked)
    except Unplannable as unplannable:
        return None, [*found, str(unplannable)] if wanted else found
    except Refusal as refusal:
        return None, [*found, str(refusal)] if wanted or not sweep.multirun else found
    here = str(sweep.master.hydra.launcher._target_).endswith(".BasicLauncher")
    found += planned_problems(plan, asked, first, _servers(fit), ask=ask, here=here)
    return plan, found


def _fit(cells: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The cells whose settings hold, and why those of others do not."""
    from ablations.cell import evaluation_config
    from fusion.pipeline import fusion_config

    fit, refused = [], []
    for settings in cells:
        try:
            evaluation_config(settings, fusion_config(settings))
        except Refusal as refusal:
            refused.append(str(refusal))
        else:
            fit.append(settings)
    return fit, refused


def _servers(cells: Sequence[Mapping[str, Any]]) -> list[Serve]:
    """How the cells' models are served, each way once."""
    chosen = [choose(SERVERS, settings["serve"], at="serve") for settings in cells]
    return [*{repr(serve): serve for serve in chosen}.values()]


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


def plan_of(sweep: Sweep, asked: Demand | None = None) -> Plan:
    """The plan of a sweep, or of a run that is none; what judges are asked for is added to `asked`.

    Raises Refusal for settings that a cell would refuse.
    """
    from ablations.plan.book import book_of
    from ablations.plan.charges import Demand

    cells = [sweep.compose(cell) for cell in sweep.cells]
    asked = asked or Demand()
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
        notes=tuple(_notes([cell.settings for cell in cells], compute, asked, rates)),
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


def _notes(
    cells: Sequence[Mapping[str, Any]], compute: Sequence[PlannedStage], asked: Demand, rates: Rates
) -> Iterable[str]:
    from fusion.pipeline import fusion_config

    yield from dict.fromkeys(text for text in (fusion_config(cell).reads_further for cell in cells) if text)
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
