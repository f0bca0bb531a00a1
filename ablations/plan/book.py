"""Every stage that the cells of a plan ask for, each once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from ablations.cell import candidates, evaluation_config, own_questions
from ablations.plan.charges import Demand
from eval.ensemble_rows import EnsembleRows
from eval.judging.judging import Judging
from eval.pipeline import run_stages
from fusion.expected import dialogues_of
from fusion.pipeline import fusion_config
from fusion.planned import Book, walked
from fusion.runtime.progress import RunProgress


def book_of(cells: Iterable[Mapping[str, Any]], asked: Demand | None = None) -> Book:
    """Every stage of the cells with these settings, each once; what judges are asked for is added to `asked`.

    Raises Refusal for settings a cell would refuse.
    """
    book, asked = Book(), asked or Demand()
    with tempfile.TemporaryDirectory(prefix="fusechat-plan-") as scratch:
        for settings in cells:
            _enter(settings, book, asked, Path(scratch))
    return book


def _enter(settings: Mapping[str, Any], book: Book, asked: Demand, scratch: Path) -> None:
    """Walk one cell with a store that computes nothing and without a server, as `ablations.cell.run_cell` does with."""
    fusing = fusion_config(settings)
    evaluating = evaluation_config(settings, fusing)
    store, fused = walked(fusing, book, scratch, dialogues_of(fusing, settings.get("expected")))
    progress = RunProgress(Console(quiet=True))
    questions = own_questions(fused)
    models = asked.unplanned(candidates(fused), evaluating, questions)
    ensembles = EnsembleRows(models, evaluating, progress)
    judging = Judging(evaluating, progress, store, asked.expect)
    loaded = asked.benchmarks(evaluating, questions)
    run_stages(models, loaded, ensembles, judging, lambda ask: ask(models, evaluating.serve, _no_server))


def _no_server() -> NoReturn:
    raise AssertionError("a plan starts no server")
