"""What the cells of a plan ask of judges: replies, tokens and money; and on which benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.answer.candidate import Candidate, digest
from eval.benchmarks import LoadedBenchmark
from eval.config import EvalConfig
from eval.judges import Member
from eval.judging.cost import Estimate
from eval.judging.estimate import estimates
from eval.judging.judgement import Judgement, by_judge
from fusion.runtime.configure import Refusal, plain


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What a judge model would be asked for on one benchmark; `money` is None where the judge has no price."""

    judge: str
    benchmark: str
    estimate: Estimate
    money: float | None


@dataclass(kw_only=True)
class Demand:
    """What all cells of a plan ask of judges, each verdict once."""

    charges: list[Charge] = field(default_factory=list)
    # Entries whose files are not there, and why.
    unknown: dict[str, str] = field(default_factory=dict)
    # The judges who have not said everything yet, each with an evaluation it is wanted for.
    judges: dict[str, tuple[Member, EvalConfig]] = field(default_factory=dict)
    # Whose evaluation was planned, and how.
    _planned: set[str] = field(default_factory=set)
    # Benchmarks by settings and file.
    _loaded: dict[str, LoadedBenchmark] = field(default_factory=dict)
    # Keys of the verdicts that were counted.
    _counted: set[str] = field(default_factory=set)

    def benchmarks(self, config: EvalConfig, questions: Mapping[str, Path]) -> dict[str, LoadedBenchmark]:
        """The judged benchmarks with their files read, those in `questions` where the run makes them; or stand-ins.

        Raises Refusal where a benchmark's files are not there and nobody knows how large it is.
        """
        return {entry: self._benchmark(entry, config, questions.get(entry)) for entry in config.judged}

    def _benchmark(self, entry: str, config: EvalConfig, made: Path | None) -> LoadedBenchmark:
        benchmark = config.judged[entry]
        known = digest([entry, plain(benchmark), str(made), str(config.data)])
        if known not in self._loaded:
            try:
                self._loaded[known] = benchmark.load(benchmark.files(config.data, questions=made))
            except Refusal as refusal:
                found = benchmark.stand_in()
                if found is None:
                    raise
                self.unknown[entry] = str(refusal)
                self._loaded[known] = found
        return self._loaded[known]

    def unplanned(
        self, candidates: Sequence[Candidate], config: EvalConfig, questions: Mapping[str, Path]
    ) -> list[Candidate]:
        """Those whose evaluation no earlier cell has planned; all of them where one's verdicts depend on the others."""
        if config.ensembles or any(one.head_to_head for one in self.benchmarks(config, questions).values()):
            return [*candidates]
        named = {digest([one.model, one.weights, repr(config), repr(questions)]): one for one in candidates}
        new = named.keys() - self._planned
        self._planned |= new
        return [one for name, one in named.items() if name in new]

    def expect(self, judgements: Sequence[Judgement]) -> None:
        """Charge judge models for what one cell has judged, unless an earlier one charged for it."""
        new = []
        for judge, own in by_judge(judgements):
            if judge.is_model:  # of the others no verdict costs anything, and a key of each takes a cell's plan seconds
                own = [one for one in own if self._first_time(one)]
                new += own
            known = digest(plain(judge))
            if known not in self.judges:
                unfinished = next((one for one in own if not one.finished), None)
                if unfinished is not None:
                    self.judges[known] = (judge, unfinished.config)
        for judge, by_entry in estimates(new):
            for entry, found in by_entry.items():
                price = judge.price
                money = None if price is None else price.of(found.prompt_tokens, found.completion_tokens)
                self.charges.append(Charge(judge=judge.label, benchmark=entry, estimate=found, money=money))

    def _first_time(self, judgement: Judgement) -> bool:
        keys = {judgement.key(repeat) for repeat in range(judgement.judge.repeats)}
        new = not keys <= self._counted
        self._counted |= keys
        return new
