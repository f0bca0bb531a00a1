"""What an evaluation is asked to do, typed: how checkpoints are served, what they are asked, who judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from eval.benchmarks import BENCHMARKS, JudgedBenchmark, MeasuredBenchmark
from eval.ensembles import ENSEMBLES, Ensemble
from eval.judges import Member, Panel, judge_from
from eval.judges.kinship import Kinship
from eval.scores.intervals import Uncertainty
from eval.serve import SERVERS, Serve
from fusion.runtime.artifacts import Reuse
from fusion.runtime.configure import Refusal, choose, typed


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How checkpoints are served, what they are asked, and who judges each benchmark that needs it (by entry)."""

    serve: Serve
    benchmarks: Mapping[str, JudgedBenchmark | MeasuredBenchmark]
    judges: Mapping[str, Member | Panel]
    uncertainty: Uncertainty
    data: Path
    artifacts: Path
    lanes: int = 1
    reuse: Reuse = "warn"
    ensembles: Mapping[str, Ensemble] = field(default_factory=dict)
    ensemble_members: tuple[str, ...] = ("Sources",)
    kinship: Kinship = field(default_factory=Kinship)

    @property
    def judged(self) -> dict[str, JudgedBenchmark]:
        """The entries whose answers a judge reads."""
        return {entry: cast(JudgedBenchmark, one) for entry, one in self.benchmarks.items() if one.needs_judge}

    @property
    def measured(self) -> dict[str, MeasuredBenchmark]:
        """The entries that ask, parse and score by themselves."""
        return {entry: cast(MeasuredBenchmark, one) for entry, one in self.benchmarks.items() if not one.needs_judge}


def eval_config(settings: Mapping[str, Any]) -> EvalConfig:
    """The typed config from what Hydra composed.  A benchmark's own `judge` comes before the experiment's.

    Raises Refusal for a name no table knows, an unknown or mistyped key, or a value out of range.
    """
    benchmarks, judges = {}, {}
    for entry, given in (settings.get("benchmark") or {}).items():
        if "name" not in given:
            continue  # an experiment's settings for an entry that was not chosen
        rest = {key: value for key, value in given.items() if key != "judge"}
        benchmarks[entry] = choose(BENCHMARKS, rest, at=f"benchmark.{entry}")
        if benchmarks[entry].needs_judge:
            own = given.get("judge")
            at = f"benchmark.{entry}.judge" if own else "judge"
            judges[entry] = judge_from(own or settings.get("judge") or {}, at=at)
    if not benchmarks:
        raise Refusal("no benchmark is chosen: expected benchmark=NAME or 'benchmark=[a,b]', entries of conf/benchmark")
    members = settings.get("ensemble_members") or ["Sources"]
    if isinstance(members, str):
        raise Refusal(f"ensemble_members is {members!r}: expected a list of groups, such as [{members}]")
    paths, report = settings["paths"], settings.get("report") or {}
    return EvalConfig(
        serve=choose(SERVERS, settings.get("serve") or {}, at="serve"),
        benchmarks=benchmarks,
        judges=judges,
        uncertainty=typed({key: report[key] for key in report if key != "out"}, Uncertainty, at="report"),
        data=Path(paths["data"]).expanduser(),
        artifacts=Path(paths["artifacts"]).expanduser(),
        lanes=settings.get("lanes", 1),
        reuse=settings.get("reuse", "warn"),
        ensembles={
            rule: choose(ENSEMBLES, given, at=f"ensembles.{rule}")
            for rule, given in (settings.get("ensembles") or {}).items()
            if "name" in given  # others are an experiment's settings for a rule that was not chosen
        },
        ensemble_members=tuple(members),
        kinship=typed(
            {"families": settings.get("families") or {}, "policy": settings.get("self_preference", "warn")},
            Kinship,
            at="self_preference",
        ),
    )
