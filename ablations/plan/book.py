"""Every stage that the cells of a plan ask for, each once."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.plan.answers import Demand
    from ablations.plan.store import Book


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
