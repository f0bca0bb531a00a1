"""What would stop a cell or a sweep, looked for before its first stage: from the plan, the wings and this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.plan.charges import Demand
from ablations.plan.rates import Rates
from ablations.plan.record import Plan
from eval.preflight import judge_problems, server_problems
from eval.serve import Serve
from fusion.experiment import FusionConfig
from fusion.pipeline import fusion_config
from fusion.planned import Book, PlanningStore
from fusion.preflight import memory_for, written_below
from fusion.preflight import problems as fusion_problems
from fusion.runtime.configure import typed
from fusion.runtime.preflight import disk_problems, machine_memory, memory_problems
from fusion.runtime.work import Dialogues


def problems(cells: Sequence[Mapping[str, Any]], *, ask: bool) -> list[str]:
    """Models, dialogues and templates that the cells with these settings would fail on; each combination once."""
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fusechat-preflight-") as scratch:
        for fusing in {_read_by(one): one for one in map(fusion_config, cells)}.values():
            none = Dialogues(count=0, tokens=0, labelled=0, written=0)
            store = PlanningStore(
                root=fusing.artifacts, reuse=fusing.reuse, scratch=Path(scratch), book=Book(), dialogues=none
            )
            found += fusion_problems(fusing, store, ask=ask)
    return found


def planned_problems(
    plan: Plan, asked: Demand, settings: Mapping[str, Any], servers: Sequence[Serve], *, ask: bool, here: bool
) -> list[str]:
    """What a plan shows to be missing: question files, what judges need, room on disk; and where the cells run `here`,
    on this machine, memory, and what the `servers` need of which one is asked."""
    compute = [stage for stage in plan.stages if stage.found is None]
    rates = typed(settings["rates"], Rates, at="rates")
    artifacts = Path(settings["paths"]["artifacts"]).expanduser()
    found = [*asked.unknown.values()]
    if here and any(stage.stage == "answers" for stage in compute):
        found += server_problems(servers, ask=ask)
    for judge, config in asked.judges.values():
        found += judge_problems([judge], config, ask=ask)
    found += disk_problems(written_below(compute, rates.bytes, artifacts, lanes=int(settings["lanes"])))
    return [*found, *(memory_problems(memory_for(compute), machine_memory()) if here else [])]


def _read_by(fusing: FusionConfig) -> str:
    """What of an experiment decides which models read which dialogues."""
    parts = (fusing.models, fusing.data, fusing.data_share, fusing.seed, fusing.represent, fusing.artifacts)
    return repr(parts)
