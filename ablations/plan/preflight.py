"""What would stop a cell or a sweep, looked for before its first stage: from the plan, the wings and this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE

from ablations.plan.charges import Demand
from ablations.plan.rates import Rates
from ablations.plan.record import Plan
from ablations.plan.store import Book, PlannedStage, PlanningStore
from eval.preflight import judge_problems
from fusion.experiment import FusionConfig
from fusion.pipeline import fusion_config
from fusion.preflight import problems as fusion_problems
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


def planned_problems(plan: Plan, asked: Demand, rates: Rates, artifacts: Path, *, ask: bool, here: bool) -> list[str]:
    """What a plan shows to be missing: question files, what judges need, room on disk; and where the cells run `here`,
    on this machine, memory."""
    compute = [stage for stage in plan.stages if stage.found is None]
    found = [*asked.unknown.values()]
    for judge, config in asked.judges.values():
        found += judge_problems([judge], config, ask=ask)
    return [
        *found,
        *disk_problems(_written(compute, plan.working, rates, artifacts)),
        *_memory(compute, here),
    ]


def _read_by(fusing: FusionConfig) -> str:
    """What of an experiment decides which models read which dialogues."""
    parts = (fusing.models, fusing.data, fusing.data_share, fusing.seed, fusing.represent, fusing.artifacts)
    return repr(parts)


def _written(compute: Sequence[PlannedStage], working: float, rates: Rates, artifacts: Path) -> dict[Path, float]:
    """Bytes still to be written, by where they go: models of the hub into its cache, all else into the store."""
    fetched = sum(rates.bytes(stage.work) for stage in compute if stage.stage == "download")
    stays = sum(rates.bytes(stage.work) for stage in compute if stage.stage != "download")
    return {artifacts: stays + working, Path(HF_HUB_CACHE): fetched}


def _memory(compute: Sequence[PlannedStage], here: bool) -> list[str]:
    held = {f"{stage.stage} {stage.what}": max(stage.work.holds, stage.work.memory) for stage in compute}
    return memory_problems(held, machine_memory()) if here else []
