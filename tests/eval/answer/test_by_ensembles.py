"""What ensembles compute is kept as it comes, under a key that covers it; an interrupted run goes on where it was."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.answer.by_ensembles import mixed_answers
from eval.answer.candidate import Candidate
from eval.answer.stages import Stages
from eval.benchmarks import BENCHMARKS
from eval.benchmarks.mt_bench import LoadedMTBench
from eval.config import EvalConfig
from eval.ensembles import PackLLMSim
from eval.records import Question
from eval.scores.intervals import Uncertainty
from eval.serve import Transformers
from eval.serve.standing import starter
from fusion.runtime.artifacts import Store
from fusion.runtime.fingerprint import module_digests
from fusion.runtime.progress import RunProgress

TEXTS = ("What is seven?", "The sum of 7 + 9", "naïve nine")


class Watched(RunProgress):
    """Counts what is advanced; from outside, an interrupt arrives after `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    @contextlib.contextmanager
    def stage(self, stage: str, what: str) -> Iterator[Any]:
        def advance(done: int, total: int) -> None:
            self.seen.append(done)
            if len(self.seen) == self.most:
                raise KeyboardInterrupt

        yield SimpleNamespace(advance=advance, finished=lambda artifact: None)


def mixed(artifacts: Path, members: list[Candidate], progress: RunProgress) -> list[tuple[str, ...]]:
    settings = BENCHMARKS["mt_bench"](temperature=0.0, max_tokens=6)
    questions = tuple(Question(id=str(number), category="c", turns=(text,)) for number, text in enumerate(TEXTS))
    config = EvalConfig(
        serve=Transformers(),
        benchmarks={"mt": settings},
        judges={},
        uncertainty=Uncertainty(),
        data=artifacts,
        artifacts=artifacts,
    )
    with contextlib.ExitStack() as stack:
        started = starter(config.serve, stack, logs=artifacts / "logs", say=progress.note)
        run = Stages(
            config=config,
            progress=progress,
            store=Store(root=artifacts),
            server=started,
            serve=config.serve,
        )
        benchmark = LoadedMTBench(settings=settings, questions=questions, prompts={})
        candidate = Candidate(model="ensemble-packllm_sim", group="Ensembles", path=artifacts, weights="both")
        return [answer.turns for answer in mixed_answers(run, candidate, members, "mt", benchmark, PackLLMSim())]


def test_an_interrupted_mixture_goes_on_at_the_first_missing_answer(make_checkpoint, tmp_path):
    members = [
        Candidate(model=name, group="Sources", path=path, weights=path.name)
        for name, path in (("one", make_checkpoint(21)), ("two", make_checkpoint(22, "pieces")))
    ]
    whole = mixed(tmp_path / "whole", members, Watched(99))
    with pytest.raises(KeyboardInterrupt):
        mixed(tmp_path / "cut", members, Watched(1))
    rest = Watched(99)
    assert mixed(tmp_path / "cut", members, rest) == whole
    assert rest.seen == [2, 3]
    (manifest,) = (tmp_path / "whole/answers").glob("*/manifest.json")
    reached = module_digests(tuple(json.loads(manifest.read_text())["modules"]))
    rules = PackLLMSim.__module__  # all of it: the rule's weights, and what they are computed with
    assert reached[rules] == module_digests((rules,))[rules]
    assert len(whole) == 3 and all(len(turns) == 1 for turns in whole)
