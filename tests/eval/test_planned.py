"""A plan walks the evaluation itself: what it expects is what a real evaluation leaves, stage by stage, key by key."""

import json

from rich.console import Console

from eval.answer.candidate import Candidate
from eval.benchmarks import BENCHMARKS
from eval.config import EvalConfig
from eval.ensemble_rows import EnsembleRows
from eval.ensembles import ENSEMBLES
from eval.judges import Reference
from eval.judging.judging import Judging
from eval.pipeline import evaluate, run_stages
from eval.scores.intervals import Uncertainty
from eval.serve import Transformers
from fusion.planned import Book, PlanningStore
from fusion.runtime.artifacts import Store, read_manifest
from fusion.runtime.digests import file_digest
from fusion.runtime.progress import RunProgress
from fusion.runtime.work import Dialogues, Size


def test_every_stage_is_planned_before_and_found_afterwards(make_checkpoint, tmp_path):
    rows = [{"question_id": 81, "category": "sum", "turns": ["What is 7 + 9?", "And nine?"], "reference": ["16", "9"]}]
    (tmp_path / "mt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {"source-one": make_checkpoint(12), "source-two": make_checkpoint(14)}
    candidates = [Candidate(model=name, group="Sources", path=path, weights=path.name) for name, path in made.items()]
    config = EvalConfig(
        serve=Transformers(dtype="float32"),
        benchmarks={"mt": BENCHMARKS["mt_bench"](temperature=0.0, max_tokens=4)},
        judges={"mt": Reference()},
        uncertainty=Uncertainty(),
        data=tmp_path,
        artifacts=tmp_path / "artifacts",
        ensembles={name: ENSEMBLES[name]() for name in ("top1_ppl", "packllm_sim")},
    )
    questions = {"mt": tmp_path / "mt.jsonl"}

    def planned() -> Book:
        none = Dialogues(count=0, tokens=0, labelled=0, written=0)
        size = Size(parameters=1000, active=1000, bytes_each=4)
        book = Book(sizes={one.weights: size for one in candidates})
        store = PlanningStore(root=config.artifacts, scratch=tmp_path, book=book, dialogues=none)
        progress = RunProgress(Console(quiet=True))
        loaded = {
            entry: one.load(one.files(tmp_path, questions=questions[entry])) for entry, one in config.judged.items()
        }
        ensembles, judging = EnsembleRows(candidates, config, progress), Judging(config, progress, store)
        run_stages(candidates, loaded, ensembles, judging, lambda ask: ask(candidates, config.serve, no_server))
        return book

    before = planned()
    assert not config.artifacts.exists()
    evaluate(candidates, config, RunProgress(), questions)
    built, after = Store(root=config.artifacts).built(), planned()
    kept = [read_manifest(path) for path in (config.artifacts / "answers").iterdir() if not path.name.startswith(".")]
    assert {manifest["facts"]["questions"] for manifest in kept} == {file_digest(questions["mt"])}
    assert {stage.stage for stage in before.stages.values()} == {"answers", "perplexity", "verdicts"}
    assert sorted(name for name, _ in before.stages) == sorted(name for name, _ in built)
    assert {place for place in before.stages if place[0] == "answers"} <= set(built)
    assert set(after.stages) == set(built)
    assert all(stage.found is not None and stage.work.units for stage in after.stages.values())


def no_server() -> None:
    raise AssertionError("a plan starts no server")
