"""What a cell or a sweep would take, before anything of it starts.

    python -m ablations plan=true experiment=fusechat_7b_v2
    python -m ablations plan=true -m experiment=pocket align=em,mined merge=linear,sce report.out=reports/plan

The pipeline itself is walked, with a store that computes nothing (`ablations.plan.store`), so every stage has the key
that a run gives it, is counted once over all cells, and is known to be there or not.  A plan above a `budget` is
refused before the first cell starts, whichever launcher is used.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.runtime.configure import Refusal, typed

if TYPE_CHECKING:
    from ablations.plan.answers import Charge, Demand
    from ablations.plan.rates import Rates
    from ablations.plan.store import Book, PlannedStage
    from ablations.sweep.cells import Sweep


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a run or a sweep may take; None: no limit.  `money` in the currency of the prices."""

    gpu_hours: float | None = None
    cpu_hours: float | None = None
    disk_gb: float | None = None
    judge_tokens: float | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise ValueError(f"{field.name} is {value}: expected 0 or more, or null for no limit")

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Line:
    """The stages of one kind: how many are to be computed, how many are there, and what the former take.

    Hours are None where they are not known; `estimated` says that a rate behind them was not measured.
    """

    stage: str
    compute: int
    reused: int
    gpu_hours: float | None
    cpu_hours: float | None
    bytes: float
    estimated: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan of `cells`.  `working` bytes are needed besides while a stage runs; `notes` say what is not known."""

    experiment: str
    cells: tuple[str, ...]
    machine: str
    lines: tuple[Line, ...]
    stages: tuple[PlannedStage, ...]
    charges: tuple[Charge, ...]
    working: float
    notes: tuple[str, ...]

    def takes(self) -> dict[str, float | None]:
        """The plan under the names of the budget; None: not known."""
        money = [charge.money for charge in self.charges if charge.estimate.replies]
        return {
            "gpu_hours": sum(line.gpu_hours or 0.0 for line in self.lines),
            "cpu_hours": sum(line.cpu_hours or 0.0 for line in self.lines),
            "disk_gb": (sum(line.bytes for line in self.lines) + self.working) / 1e9,
            "judge_tokens": sum(c.estimate.prompt_tokens + c.estimate.completion_tokens for c in self.charges),
            "money": None if None in money else sum(amount for amount in money if amount is not None),
        }


def before_start(arguments: Sequence[str]) -> None:
    """With `plan=true` among a command's arguments print the plan and end; with a budget refuse what exceeds it.

    Raises Refusal naming the budget, what the run would take, and the way out.
    """
    from hydra._internal.utils import get_args_parser

    from ablations.sweep.cells import expand

    given = get_args_parser().parse_args([*arguments])
    if given.help or given.hydra_help or given.cfg or given.info or given.shell_completion:
        return
    sweep = expand("ablations", given.overrides, multirun=given.multirun, config_dir=given.config_dir)
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
    from ablations.plan.answers import Demand
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


def book_of(cells: Iterable[Mapping[str, Any]], asked: Demand | None = None) -> Book:
    """Every stage of the cells with these settings, each once.  Raises Refusal for settings a cell would refuse."""
    from rich.console import Console

    from ablations.cell import candidates, evaluation_config, own_questions
    from ablations.plan.answers import Demand, plan_evaluation
    from ablations.plan.store import Book, PlanningStore
    from ablations.plan.work import dialogues_of
    from fusion.pipeline import fusion_config, run
    from fusion.runtime.progress import RunProgress

    asked = Demand() if asked is None else asked
    book = Book()
    with tempfile.TemporaryDirectory(prefix="fusechat-plan-") as scratch:
        for settings in cells:
            fusing = dataclasses.replace(fusion_config(settings), lanes=1)  # so that inputs are entered before outputs
            evaluating = evaluation_config(settings, fusing)
            dialogues = dialogues_of(fusing, settings.get("expected"))
            store = PlanningStore(root=fusing.artifacts, scratch=Path(scratch), book=book, dialogues=dialogues)
            progress = RunProgress(Console(quiet=True))
            fused = run(fusing, progress, store=store, locate=store.locate)
            models, questions = candidates(fused), own_questions(fused)
            plan_evaluation(models, evaluating, progress, questions, store=store, asked=asked)
            for record in progress.records():
                stage = book.stages[record.stage, record.key]
                stage.what = stage.what or record.what
    return book


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
