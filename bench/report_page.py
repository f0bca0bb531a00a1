"""The report of 20 models, as a reader opens it: leaderboard and answers browser in headless Chromium.

Answers have the length that chat models give them (about 1,500 characters), verdicts that of GPT-4's (about 600).
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.chromium import Page, browser, find
from bench.row import BenchRow, once, spelled
from eval.records import Answer, ItemScore, Question, Verdict
from eval.report.write import write_report
from eval.scored import ScoredModel, ShownAnswers
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow

MODELS = 20
BAR = 2.0
WORDS = "the of and to in that is was for it with as his on be at by had not are but from or have an they which".split()


def rows() -> list[BenchRow]:
    """Seconds to write and to open the reports of both benchmarks at their published sizes."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for benchmark, questions, turns, bar in (("mt_bench", 80, 2, BAR), ("alpaca_eval", 805, 1, None)):
            what = f"{MODELS} models x {questions} questions"
            scored, out = judged(benchmark, questions=questions, turns=turns), Path(folder) / benchmark
            taken = once(partial(write_report, scored, out, title="bench", uncertainty=Uncertainty()))
            size = (out / "answers.html").stat().st_size / 1e6
            found.append(BenchRow(what=f"report of {what} written", measured=spelled(taken), bar="", reached=None))
            if find() is None:
                found.append(BenchRow(what=f"{what} opened", measured="no Chromium here", bar="", reached=None))
                continue
            with browser() as page:
                board = opening(page, out / "leaderboard.html", "document.querySelector('tbody tr')")
                answers = opening(page, out / "answers.html", "document.querySelector('article')")
            wanted = f"under {bar:g} s" if bar else ""
            for name, seconds in (("leaderboard", board), (f"answers ({size:.0f} MB)", answers)):
                reached = seconds < bar if bar else None
                found.append(
                    BenchRow(what=f"{name} of {what} opened", measured=spelled(seconds), bar=wanted, reached=reached)
                )
    return found


def opening(page: Page, path: Path, ready: str, *, repeats: int = 5) -> float:
    """The median seconds from navigation until the page is ready and painted.  Raises RuntimeError if it complains."""
    seconds = []
    for _ in range(repeats):
        page.open("about:blank", "true")
        seconds.append(page.open(path.as_uri(), ready))
    if page.complaints:
        raise RuntimeError(f"{path.name}: {page.complaints}")
    return statistics.median(seconds)


def judged(benchmark: str, *, questions: int, turns: int, models: int = MODELS) -> list[ScoredModel]:
    """Models with answers and verdicts of a chat model's usual length; the words mean nothing."""
    draw = random.Random(0)
    asked = tuple(
        Question(id=str(i), category=f"category {i % 8}", turns=tuple(_text(draw, 200) for _ in range(turns)))
        for i in range(questions)
    )
    baseline = tuple(Answer(question_id=q.id, model="baseline", turns=(_text(draw, 2000),)) for q in asked)
    return [
        _model(draw, benchmark, "pivot" if number == 0 else f"model {number}", asked, baseline if turns == 1 else ())
        for number in range(models)
    ]


def _model(
    draw: random.Random, benchmark: str, name: str, questions: Sequence[Question], opponents: Sequence[Answer]
) -> ScoredModel:
    rated = benchmark == "mt_bench"
    metric = "rating" if rated else "win_rate"
    answers, verdicts, items = [], [], []
    for question in questions:
        said = tuple(_text(draw, 1500) for _ in question.turns)
        answers.append(Answer(question_id=question.id, model=name, turns=said))
        for turn in range(1, len(question.turns) + 1):
            value = float(draw.randint(1, 10)) if rated else 1 + draw.random()
            words = f"{_text(draw, 600)} Rating: [[{value:g}]]" if rated else "m"
            verdicts.append(Verdict(question_id=question.id, turn=turn, value=value, judge="judge", text=words))
            items.append(
                ItemScore(
                    benchmark=benchmark,
                    metric=metric,
                    question_id=question.id,
                    turn=turn,
                    category=question.category,
                    value=value if rated else value - 1,
                )
            )
    scale = 1 if rated else 100
    found = mean_interval([scale * (i.value or 0) for i in items], [i.question_id for i in items], Uncertainty())
    row = MetricRow(
        benchmark=benchmark,
        metric=metric,
        slice="all",
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        unscored=0,
    )
    shown = ShownAnswers(
        questions=tuple(questions), answers=tuple(answers), opponents=tuple(opponents), verdicts=tuple(verdicts)
    )
    return ScoredModel(
        model=name,
        group="Pivot" if name == "pivot" else "Merged",
        benchmark=benchmark,
        metrics=(row,),
        items=tuple(items),
        shown=shown,
    )


def _text(draw: random.Random, length: int) -> str:
    words = draw.choices(WORDS, k=length // 4)
    return " ".join(words)[:length]
